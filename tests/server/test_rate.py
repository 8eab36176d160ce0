"""The bit rate follows the link down at once, and back up in steps."""

from hypothesis import given
from hypothesis import strategies as st

from server.rate import RateControl

CEILING, FLOOR = 2_000_000, 150_000

signals = st.lists(
    st.tuples(
        st.floats(0, 2),  # seconds since the last one
        st.sampled_from(["remb", "lost", "overflow", "nothing"]),
        st.floats(0, 1),
    ),
    max_size=40,
)


def play(rate: RateControl, happened: list[tuple[float, str, float]]) -> list[int]:
    now, rates = 100.0, []
    for gap, signal, value in happened:
        now += gap
        if signal == "remb":
            rate.remb(int(value * 2 * CEILING), now=now)
        elif signal == "lost":
            rate.lost(value, now=now)
        elif signal == "overflow":
            rate.overflow(now=now)
        rates.append(rate.bit_rate(now=now))
    return rates


@given(signals)
def test_never_outside_floor_and_ceiling(happened: list[tuple[float, str, float]]) -> None:
    assert all(FLOOR <= rate <= CEILING for rate in play(RateControl(CEILING, FLOOR), happened))


def test_starts_high_and_stays_there_without_trouble() -> None:
    assert play(RateControl(CEILING, FLOOR), [(0.5, "nothing", 0.0)] * 5) == [CEILING] * 5


def test_the_receivers_estimate_is_a_ceiling_while_it_is_fresh() -> None:
    rate = RateControl(CEILING, FLOOR)
    rate.remb(1_000_000, now=10.0)
    assert rate.bit_rate(now=10.1) == 850_000
    assert rate.bit_rate(now=16.0) == CEILING  # no estimate for longer than it lives


def test_loss_cuts_once_for_one_moment_and_a_little_loss_not_at_all() -> None:
    rate = RateControl(CEILING, FLOOR)
    rate.lost(0.05, now=10.0)
    assert rate.bit_rate(now=10.0) == CEILING
    rate.lost(0.5, now=10.0)
    rate.lost(0.5, now=10.1)
    assert rate.bit_rate(now=10.1) == 1_500_000


def test_recovers_in_small_steps() -> None:
    rate = RateControl(CEILING, FLOOR)
    for i in range(10):
        rate.overflow(now=10.0 + i)
    low = rate.bit_rate(now=19.1)
    rates = [rate.bit_rate(now=20.0 + i / 10) for i in range(400)]
    assert low < CEILING / 10
    assert all(b <= a * 1.09 for a, b in zip([low, *rates], rates, strict=False))
    assert rates[-1] == CEILING
