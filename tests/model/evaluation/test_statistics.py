"""Bootstrap against a known distribution; drift and slope against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluation.statistics import bootstrap, drift_term, ends, slope, stretch_means


def test_the_interval_of_normal_values_is_the_textbook_one():
    values = np.random.default_rng(1).normal(20.0, 3.0, 400)
    interval = bootstrap(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.05)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.05)
    assert interval.num == 400


def test_intervals_hold_the_true_mean_nineteen_times_of_twenty():
    rng = np.random.default_rng(2)
    held = [(i := bootstrap(rng.exponential(1.0, 60))).low <= 1.0 <= i.high for _ in range(200)]
    assert 0.88 <= np.mean(held) <= 0.99


def test_stretches_end_where_the_series_does():
    series = np.array([[9.0, 9.0], [1.0, 10.0], [3.0, 20.0], [5.0, 30.0], [7.0, 40.0]])
    assert stretch_means(series, 2).tolist() == [[2.0, 15.0], [6.0, 35.0]]


def test_videos_without_such_frames_do_not_count():
    assert bootstrap([1.0, float("nan"), 3.0])[::3] == (2.0, 2)
    nothing = bootstrap([float("nan")])
    assert math.isnan(nothing.mean) and nothing.num == 0


@given(st.floats(1, 100), st.floats(-0.9, 3))
def test_drift_is_the_relative_change_between_the_ends(start, change):
    series = np.full(100, 1e6)
    series[:15], series[-15:] = start, start * (1 + change)
    assert drift_term(series) == pytest.approx(abs(change), abs=1e-9)
    assert ends(series) == pytest.approx((start, start * (1 + change)))


def test_a_frozen_series_does_not_drift():
    assert drift_term(np.full(7, 3.0)) == 0.0 == slope(np.array([4.0]))


def test_slope_is_per_hundred_frames():
    assert slope(30.0 - 0.02 * np.arange(250)) == pytest.approx(-2.0)
