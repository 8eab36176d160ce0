"""The bit rate of a session's video, from what its player's link reports."""

import math
from dataclasses import dataclass

REMB_SHARE = 0.85  # of what the receiver estimates in congestion, so that the queue can drain
NUM_COMPLAINTS = 2  # estimates in a row that make congestion
LOSS_LIMIT, SOME_LOSS = 0.1, 0.02  # below the first retransmission is enough
LOSS_SHARE = 0.85  # of what arrived, so that a queue that overflows can drain
OVERFLOW_CUT = 0.7
START_SHARE = 0.3  # of the ceiling: x264 is then 0.3 to 0.9 dB below its best, and steps lead up in 8 seconds
START_RANGE = (600_000, 1_500_000)  # bits per second: for small frames the best, and what most links take
CUT_GAP = 0.3  # seconds: one bad moment counts once
PROBE_GAP = 0.5  # seconds without trouble before each step up
PROBE_STEP, CAREFUL_STEP = 1.08, 1.02
KNEE = 0.9  # from this share of where it broke the last time, steps are careful
KNEE_LIFE = 30.0  # seconds
SENT_WINDOW = 0.5  # seconds over which the sent rate is smoothed


@dataclass(slots=True)
class RateControl:
    """Falls at once when the link suffers, and rises again by steps.

    The receiver's estimate (REMB) is no ceiling: while little is sent it stays little above that, and later grows by
    8 % a second only, so a player who stood still would see blur on turning. But when it is below what is sent and
    does not rise, the link is congested. Times are seconds of any monotonic clock. Viewers do not report here.
    """

    ceiling: int
    floor: int
    start: int = 0  # by default as the ceiling, which goes by the size of the frames, suggests
    _rate: float = 0.0
    _sent: float = 0.0
    _sent_at: float = -math.inf
    _estimate: float = math.inf
    _complaints: int = 0
    _loss: float = 0.0
    _knee: float = math.inf
    _knee_until: float = -math.inf
    _cut_at: float = -math.inf
    _probed_at: float = -math.inf

    def __post_init__(self) -> None:
        assert 0 < self.floor <= self.ceiling
        # The first report takes a second or two. Until then 4 Mbit/s on a link of 2 lost half of all packets, after
        # which a receiver that buffers 128 packets (aiortc) showed nothing for 6 seconds.
        least, most = START_RANGE
        start = self.start or min(most, max(least, START_SHARE * self.ceiling))
        self._rate = float(min(self.ceiling, max(start, self.floor)))

    def sent(self, num_bits: int, *, now: float) -> None:
        """A picture of so many bits goes out. Leave key frames out: one alone is no trend."""
        fading = math.exp((self._sent_at - now) / SENT_WINDOW)
        self._sent = self._sent * fading + num_bits / SENT_WINDOW
        self._sent_at = now

    def remb(self, bit_rate: int, *, now: float) -> None:
        """The receiver estimates that it can take `bit_rate` (draft-alvestrand-rmcat-remb)."""
        is_complaint = bit_rate < self._sent and bit_rate <= self._estimate
        self._complaints = self._complaints + 1 if is_complaint else 0
        self._estimate = float(bit_rate)
        if self._complaints >= NUM_COMPLAINTS:
            self._knee, self._knee_until = float(bit_rate), now + KNEE_LIFE
            self._cut(REMB_SHARE * bit_rate, now)

    def lost(self, fraction: float, *, now: float) -> None:
        """A receiver report says that `fraction` of the packets since the last one were lost (RFC 3550)."""
        self._loss = fraction
        if fraction > LOSS_LIMIT:
            self._cut(LOSS_SHARE * self._rate * (1.0 - fraction), now)

    def overflow(self, *, now: float) -> None:
        """The player's mailbox overflowed: its link, or its machine, is slower than the stream."""
        self._cut(self._rate * OVERFLOW_CUT, now)

    def bit_rate(self, *, now: float) -> int:
        """What the next frame may use, in bits per second."""
        if now - max(self._cut_at, self._probed_at) >= PROBE_GAP:
            is_near_knee = now < self._knee_until and self._rate > KNEE * self._knee
            step = CAREFUL_STEP if is_near_knee or self._loss > SOME_LOSS else PROBE_STEP
            self._probed_at = now
            self._rate = min(self._rate * step, float(self.ceiling))
        return int(self._rate)

    def _cut(self, rate: float, now: float) -> None:
        if now - self._cut_at >= CUT_GAP:
            self._cut_at = now
            self._rate = max(min(self._rate, rate), float(self.floor))
