"""The bit rate of a session's video, from what its player's link reports."""

from dataclasses import dataclass

REMB_SHARE = 0.85  # of what the receiver estimates, so that its queue can drain
REMB_LIFE = 5.0  # seconds; receivers repeat it several times a second
CUT_GAP = 0.3  # seconds: one bad moment counts once
PROBE_GAP = 0.5  # seconds without trouble before each step up
PROBE_STEP = 1.08
OVERFLOW_CUT = 0.7
LOSS_LIMIT = 0.1  # below it retransmission is enough


@dataclass(slots=True)
class RateControl:
    """Falls at once on loss and overflow, rises by 8 % steps, and never exceeds what the player's receiver estimates.

    Times are seconds of any monotonic clock. Viewers do not report here: they never lower the player's picture.
    """

    ceiling: int
    floor: int
    _rate: float = 0.0
    _remb: float = 0.0
    _remb_until: float = float("-inf")
    _cut_at: float = float("-inf")
    _probed_at: float = float("-inf")

    def __post_init__(self) -> None:
        assert 0 < self.floor <= self.ceiling
        self._rate = float(self.ceiling)  # starting high is safe: the estimate follows within a second

    def remb(self, bit_rate: int, *, now: float) -> None:
        """The receiver estimates that it can take `bit_rate` (draft-alvestrand-rmcat-remb)."""
        self._remb, self._remb_until = REMB_SHARE * bit_rate, now + REMB_LIFE

    def lost(self, fraction: float, *, now: float) -> None:
        """A receiver report says that `fraction` of the packets since the last one were lost (RFC 3550)."""
        if fraction > LOSS_LIMIT:
            self._cut(1.0 - fraction / 2, now)

    def overflow(self, *, now: float) -> None:
        """The player's mailbox overflowed: its link, or its machine, is slower than the stream."""
        self._cut(OVERFLOW_CUT, now)

    def bit_rate(self, *, now: float) -> int:
        """What the next frame may use, in bits per second."""
        if now - max(self._cut_at, self._probed_at) >= PROBE_GAP:
            self._probed_at = now
            self._rate = min(self._rate * PROBE_STEP, float(self.ceiling))
        limit = self._remb if now < self._remb_until else float(self.ceiling)
        return int(max(min(self._rate, limit, float(self.ceiling)), float(self.floor)))

    def _cut(self, factor: float, now: float) -> None:
        if now - self._cut_at >= CUT_GAP:
            self._cut_at = now
            self._rate = max(self.bit_rate(now=now) * factor, float(self.floor))
