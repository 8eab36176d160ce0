"""The bit rate follows the link down at once, and back up in steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.encode import EncodeConfig, ceiling
from server.rate import RateControl

CEILING, FLOOR = 2_000_000, 150_000
FRAME = 1 / 30  # seconds

signals = st.lists(
    st.tuples(
        st.floats(0, 2),  # seconds since the last one
        st.sampled_from(["sent", "remb", "lost", "overflow", "nothing"]),
        st.floats(0, 1),
    ),
    max_size=40,
)


def play(rate: RateControl, happened: list[tuple[float, str, float]]) -> list[int]:
    now, rates = 100.0, []
    for gap, signal, value in happened:
        now += gap
        if signal == "sent":
            rate.sent(int(value * CEILING), now=now)
        elif signal == "remb":
            rate.remb(int(value * 2 * CEILING), now=now)
        elif signal == "lost":
            rate.lost(value, now=now)
        elif signal == "overflow":
            rate.overflow(now=now)
        rates.append(rate.bit_rate(now=now))
    return rates


@given(signals)
def test_never_outside_floor_and_ceiling(happened: list[tuple[float, str, float]]) -> None:
    assert all(FLOOR <= rate <= CEILING for rate in play(RateControl(CEILING, FLOOR, start=CEILING), happened))


def test_stays_high_without_trouble() -> None:
    assert play(RateControl(CEILING, FLOOR, start=CEILING), [(0.5, "nothing", 0.0)] * 5) == [CEILING] * 5


def test_starts_with_what_most_links_take_and_rises_by_steps() -> None:
    rates = play(RateControl(4_000_000, FLOOR), [(0.5, "nothing", 0.0)] * 20)
    assert rates[0] < 1_400_000 and rates[7] < 2_400_000 and rates[-1] == 4_000_000
    assert all(before <= after <= 1.09 * before for before, after in zip(rates, rates[1:], strict=False))


def test_the_start_goes_by_the_size_of_the_frames() -> None:
    starts = {}
    for shape in ((128, 128), (480, 832), (64, 64)):
        most = ceiling(shape, frame_rate=30.0, config=EncodeConfig())
        starts[shape] = RateControl(most, FLOOR).bit_rate(now=0.0) / most
    assert starts == pytest.approx({(128, 128): 0.6, (480, 832): 0.3, (64, 64): 0.6}, rel=0.09)  # and one step up
    assert RateControl(500_000, FLOOR).bit_rate(now=0.0) == 500_000
    assert RateControl(20_000_000, FLOOR).bit_rate(now=0.0) <= 1_650_000


def test_a_low_estimate_of_a_quiet_stream_is_no_limit() -> None:
    rate = RateControl(CEILING, FLOOR, start=CEILING)
    for i in range(50):
        rate.sent(2_000, now=10 + i / 10)
        rate.remb(30_000 - 10 * i, now=10 + i / 10)  # one and a half times what is sent, as receivers cap it
    assert rate.bit_rate(now=15.0) == CEILING


def test_a_turn_after_standing_still_is_no_congestion() -> None:
    rate = RateControl(CEILING, FLOOR, start=CEILING)
    for i in range(100):
        rate.sent(1_000 if i < 50 else 60_000, now=10 + i / 20)
        rate.remb(30_000 + (200 * (i - 50) if i > 50 else 0), now=10 + i / 20)  # it rises, if slowly
    assert rate.bit_rate(now=15.0) == CEILING


def test_estimates_below_what_is_sent_cut_when_they_do_not_rise() -> None:
    rate = RateControl(CEILING, FLOOR, start=CEILING)
    for i in range(20):
        rate.sent(60_000, now=10 + i / 30)
    rate.remb(1_000_000, now=10.7)
    assert rate.bit_rate(now=10.7) == CEILING
    rate.remb(1_000_000, now=10.9)
    assert rate.bit_rate(now=10.9) == 850_000


def test_loss_cuts_once_for_one_moment_and_a_little_loss_not_at_all() -> None:
    rate = RateControl(CEILING, FLOOR, start=CEILING)
    rate.lost(0.05, now=10.0)
    assert rate.bit_rate(now=10.0) == CEILING
    rate.lost(0.5, now=10.0)
    rate.lost(0.5, now=10.1)
    assert rate.bit_rate(now=10.1) == 850_000


def test_recovers_in_small_steps() -> None:
    rate = RateControl(CEILING, FLOOR, start=CEILING)
    for i in range(10):
        rate.overflow(now=10.0 + i)
    low = rate.bit_rate(now=19.1)
    rates = [rate.bit_rate(now=20.0 + i / 10) for i in range(400)]
    assert low < CEILING / 10
    assert all(b <= a * 1.09 for a, b in zip([low, *rates], rates, strict=False))
    assert rates[-1] == CEILING


class Bottleneck:
    """A link of `capacity` bits a second with a queue of half a second; its receiver estimates about as libwebrtc's."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.queue = 0.0  # bits
        self.estimate = 1e9
        self.offered = self.dropped = 0.0  # bits since the last receiver report
        self._delay = 0.0

    def carry(self, num_bits: float) -> None:
        queue = max(0.0, self.queue + num_bits - self.capacity * FRAME)
        self.queue = min(queue, 0.5 * self.capacity)
        self.offered += num_bits
        self.dropped += queue - self.queue

    def loss(self) -> float:
        fraction = self.dropped / self.offered
        self.offered = self.dropped = 0.0
        return fraction

    def report(self) -> int:
        """What it estimates: less than it receives while the delay grows."""
        delay = self.queue / self.capacity
        if delay > self._delay + 0.01:
            self.estimate = 0.85 * self.capacity
        else:
            self.estimate = min(self.estimate * 1.02, 1.5 * self.capacity)
        self._delay = delay
        return int(self.estimate)


@settings(max_examples=25)
@given(st.floats(300_000, 1_800_000))
def test_settles_below_a_bottleneck_and_uses_most_of_it(capacity: float) -> None:
    rate, link = RateControl(CEILING, FLOOR, start=CEILING), Bottleneck(capacity)
    rates, delays = [], []
    for i in range(30 * 60):
        now = 10 + i * FRAME
        bits = rate.bit_rate(now=now) * FRAME
        rate.sent(int(bits), now=now)
        link.carry(bits)
        if i % 7 == 0:
            rate.remb(link.report(), now=now)
        if i % 30 == 29:
            rate.lost(link.loss(), now=now)
        rates.append(rate.bit_rate(now=now))
        delays.append(link.queue / capacity)
    settled = slice(30 * 10, None)
    assert np.mean(delays[settled]) < 0.1
    assert 0.6 * capacity < np.mean(rates[settled]) < capacity
