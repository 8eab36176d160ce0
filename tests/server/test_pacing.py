"""The schedule under steady, slow, jittery and stalling generation, on a clock that the test moves."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.pacing import Pacer

RATE = 10.0


def play(pacer: Pacer, seconds: Iterable[float]) -> np.ndarray:
    """Frame times when the sections take `seconds` each and one begins as soon as it may."""
    now, times = pacer.begin_at, []
    for took in seconds:
        now = max(now, pacer.begin_at) + took
        times.extend(pacer.release(now))
    return np.array(times)


@pytest.mark.parametrize("num_frames", [1, 4])
def test_a_fast_model_is_shown_at_its_own_rate(num_frames: int) -> None:
    times = play(Pacer(frame_rate=RATE, num_frames=num_frames, now=3.0), [0.03] * 20)
    assert times[0] == pytest.approx(3.03)
    np.testing.assert_allclose(np.diff(times), 0.1, atol=1e-9)


@pytest.mark.parametrize("num_frames", [1, 4])
def test_a_slow_model_is_shown_evenly_as_fast_as_it_goes(num_frames: int) -> None:
    times = play(Pacer(frame_rate=RATE, num_frames=num_frames, now=0.0), [0.25 * num_frames] * 20)
    np.testing.assert_allclose(np.diff(times)[2 * num_frames :], 0.25, atol=1e-9)


def test_sections_are_begun_as_late_as_they_can_be() -> None:
    pacer = Pacer(frame_rate=RATE, num_frames=1, now=0.0)
    play(pacer, [0.03] * 10)
    [shown] = pacer.release(pacer.begin_at + 0.03)
    assert pacer.begin_at == pytest.approx(shown + 0.1 - 0.03)


def test_the_wait_for_others_counts_as_lead() -> None:
    """When the engine is busy with others, a session asks for its turn earlier."""
    pacer = Pacer(frame_rate=RATE, num_frames=1, now=0.0)
    for _ in range(10):
        begun_late = pacer.begin_at + 0.04
        [shown] = pacer.release(begun_late + 0.03)
    assert pacer.begin_at == pytest.approx(shown + 0.1 - 0.07)


def test_who_was_served_last_is_less_urgent_however_slow_it_is() -> None:
    quick, slow = (Pacer(frame_rate=RATE, num_frames=2, now=0.0) for _ in range(2))
    play(quick, [0.03] * 5)
    play(slow, [3.0] * 5)
    quick.restart(100.0)
    slow.restart(99.0)
    assert slow.deadline < quick.deadline == pytest.approx(100.2)


def test_small_delays_do_not_lower_the_rate() -> None:
    times = play(Pacer(frame_rate=RATE, num_frames=1, now=0.0), [0.03, 0.05] * 100)
    assert (times[-1] - times[0]) / (len(times) - 1) == pytest.approx(0.1, rel=0.005)


def test_one_hiccup_does_not_slow_what_follows() -> None:
    pacer = Pacer(frame_rate=RATE, num_frames=1, now=0.0)
    play(pacer, [0.03] * 10)
    times = play(pacer, [2.0] + [0.03] * 5)
    np.testing.assert_allclose(np.diff(times), 0.1, atol=1e-9)


def test_the_rate_comes_back_when_the_model_is_fast_again() -> None:
    pacer = Pacer(frame_rate=RATE, num_frames=4, now=0.0)
    play(pacer, [2.0] * 10)
    assert pacer.period == pytest.approx(0.5)
    play(pacer, [0.03] * 10)
    assert pacer.period == 0.1


def test_a_pause_is_not_taken_for_slowness() -> None:
    pacer = Pacer(frame_rate=RATE, num_frames=1, now=0.0)
    play(pacer, [0.03] * 3)
    pacer.restart(100.0)
    assert pacer.begin_at == 100.0
    assert pacer.release(100.03) == [pytest.approx(100.03)]
    assert pacer.lead == pytest.approx(0.03)


def play_aside(pacer: Pacer, sections: Iterable[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """When frames come, and how old each section's controls are, if sampling and decoding take so long each."""
    begun, times, ages, decoded = pacer.begin_at, [], [], 0.0
    for sampling, decoding in sections:
        sampled = max(begun + sampling, decoded)  # one is decoded at a time
        pacer.hand_on(sampled, begun=begun)
        following = max(sampled, pacer.begin_at)
        decoded = sampled + decoding
        released = pacer.release(decoded, begun=begun)
        times.extend(released)
        ages.append(released[0] - begun)
        begun = following
    return np.array(times), np.array(ages)


@pytest.mark.parametrize(("sampling", "decoding", "period"), [(1.0, 0.4, 0.25), (0.4, 1.0, 0.25), (0.2, 0.1, 0.1)])
def test_decoding_aside_costs_time_only_where_it_is_the_slower_part(
    sampling: float, decoding: float, period: float
) -> None:
    times, ages = play_aside(Pacer(frame_rate=RATE, num_frames=4, now=0.0), [(sampling, decoding)] * 30)
    np.testing.assert_allclose(np.diff(times)[40:], period, atol=0.02)
    assert ages[10:].max() <= sampling + decoding + 4 * period + 1e-6


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 3.0)), min_size=2, max_size=30))
def test_aside_too_there_is_never_a_burst(sections: list[tuple[float, float]]) -> None:
    times, _ = play_aside(Pacer(frame_rate=RATE, num_frames=4, now=0.0), sections)
    assert np.diff(times).min() >= 0.5 * 0.1 - 1e-9


@given(
    num_frames=st.integers(1, 8),
    seconds=st.lists(st.floats(0.0, 3.0), min_size=2, max_size=40),
)
def test_never_a_burst_never_in_the_past(num_frames: int, seconds: list[float]) -> None:
    pacer = Pacer(frame_rate=RATE, num_frames=num_frames, now=0.0)
    now, last = 0.0, -1.0
    for took in seconds:
        now = max(now, pacer.begin_at) + took
        times = pacer.release(now)
        assert len(times) == num_frames
        assert times[0] >= now
        assert np.diff([last, *times]).min() >= 0.5 * 0.1 - 1e-9
        last = times[-1]


@given(st.lists(st.floats(0.0, 0.5), min_size=10, max_size=40))
def test_what_is_shown_late_is_at_most_one_section(seconds: list[float]) -> None:
    """The buffer is bounded: a frame waits at most for its section's own frames and the lead."""
    pacer = Pacer(frame_rate=RATE, num_frames=4, now=0.0)
    now = 0.0
    for took in seconds:
        now = max(now, pacer.begin_at) + took
        lead = pacer.lead
        assert pacer.release(now)[-1] - now <= lead + 4 * max(0.1, pacer.period) + 1e-9
