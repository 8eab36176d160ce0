"""Presets, arbitrary rates and the bound of Eq. 2."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.packing.families import (
    PRESETS,
    RateError,
    context_bound,
    context_length,
    expand_rate,
    preset,
    rate_schedule,
    sliding_window,
)
from model.packing.schedule import Schedule

GRID = (64, 128)  # whole kernels up to (16, 32, 32)
FRAME_TOKENS = 32 * 64

counts = st.integers(0, 100_000)
ratios = st.floats(1.01, 64)


@given(counts, st.integers(1, 64), ratios)
def test_eq2_is_bounded(history, target, ratio):
    assert target <= context_length(history, target=target, ratio=ratio) <= context_bound(target, ratio=ratio)


@given(st.integers(0, 200), st.integers(1, 9), st.floats(1.5, 8))
def test_eq2_is_the_sum_of_eq1(history, target, ratio):
    summed = target + sum(ratio**-i for i in range(history))
    assert context_length(history, target=target, ratio=ratio) == pytest.approx(summed, rel=1e-9)


@given(counts, st.sampled_from(sorted(PRESETS)))
def test_presets_stay_under_the_bound_of_their_slots(history, family):
    schedule = preset(family)
    slots = sum(s.frames for s in schedule.past)
    tokens = schedule.context_tokens(GRID, tail_frames=max(0, history - slots))
    assert tokens == schedule.context_tokens(GRID)
    starts = sum(s.tokens(GRID) for s in schedule.start)
    assert tokens - starts <= (context_bound(0) + 1) * FRAME_TOKENS


def test_presets_have_what_their_family_names():
    assert len({s.kernel for s in preset("geometric").past}) == 7
    costs = [s.tokens(GRID) for s in preset("geometric").past]
    assert costs == [FRAME_TOKENS // 2**i for i in range(6, -1, -1)]
    assert all(s.kernel[0] == 1 and s.frames == 2 for s in preset("temporal-level-duplication").past[:-1])
    assert preset("level-duplication").past[0].tokens(GRID) == preset("level-duplication").past[1].tokens(GRID)
    assert all(s.frames == s.kernel[0] for s in preset("temporal-kernel").past)
    assert preset("important-start").start != () == preset("level-duplication").start
    symmetric = [str(s) for s in preset("symmetric").past]
    assert symmetric == symmetric[::-1]


def test_presets_take_another_base_patch():
    assert preset("level-duplication", base=(1, 1, 1)).past[0].kernel == (4, 4, 4)


def test_the_papers_example_duplicates_two_terms():
    assert expand_rate(2.625, levels=6) == (1, 2, 1, 2, 1, 2)  # 1/2 and 1/8; the last term closes the series
    assert expand_rate(2, levels=4) == (1, 1, 1, 2)


@given(st.integers(1, 8), st.integers(1, 512))
def test_a_rate_is_met_exactly(levels, units):
    rate = Fraction(units, 2 ** (levels - 1))
    spent = sum(Fraction(n, 2**level) for level, n in enumerate(expand_rate(rate, levels=levels)))
    assert spent == rate


@given(st.integers(1, 256))
def test_a_rates_schedule_costs_it_in_tokens(units):
    schedule = rate_schedule(Fraction(units, 64))
    assert schedule.context_tokens(GRID) * 64 == units * FRAME_TOKENS
    assert Schedule.parse(str(schedule)) == schedule


@pytest.mark.parametrize(("rate", "levels"), [(0, 4), (-1, 4), (0.01, 3), (1, 0)])
def test_impossible_rates_are_refused(rate, levels):
    with pytest.raises(RateError, match=str(rate)):
        expand_rate(rate, levels=levels)


@given(st.integers(64, 64 * 300))
def test_a_sliding_window_fills_its_budget_with_whole_frames(budget):
    window = sliding_window(budget, grid=(16, 16), target=1)
    assert budget - 64 < window.context_tokens((16, 16)) <= budget
    assert [s.kernel for s in window.past] == [(1, 2, 2)]


def test_a_window_needs_a_frame():
    with pytest.raises(RateError, match="at least one frame, 64 tokens, got 63"):
        sliding_window(63, grid=(16, 16))
