"""Drift of made-up looks, and of real frames that freeze or fade."""

import numpy as np
import pytest

from model.evaluation.drift import LOOKS, drifting, looks, pooled_drift, steadiness

RNG = np.random.default_rng(0)


def steady(num: int = 200) -> np.ndarray:
    return np.array([400.0, 120.0, 50.0, 12.0]) * (1 + 0.01 * RNG.standard_normal((num, 4)))


def test_a_steady_run_drifts_little_and_moves_as_the_truth():
    row = drifting(steady(), steady())
    assert max(row[name] for name in LOOKS[:3]) < 0.02 and row["collapsed"] == 0
    assert row["motion_ratio"] == pytest.approx(1, abs=0.01)


def test_a_fading_run_drifts_by_its_share_and_collapses():
    fading = steady()
    fading[:, 0] *= np.linspace(1, 0.2, 200)
    row = drifting(fading, steady())
    start, end = 1 - 0.8 * 0.075, 1 - 0.8 * 0.925
    assert row["sharpness"] == pytest.approx(1 - end / start, abs=0.02)
    assert row["mean"] < 0.02 and row["collapsed"] == 1 and row["sharpness_truth"] < 0.02


def test_a_frozen_run_does_not_drift_but_does_not_move():
    frozen = steady()
    frozen[:, 3] = 0.1
    row = drifting(frozen, steady())
    assert row["motion_ratio"] < 0.02 and row["collapsed"] == 1 and row["sharpness"] < 0.02


def test_a_run_may_end_in_any_room_that_there_is():
    """Beside its own walk alone, each of two true walks would have collapsed."""
    dim, bright = steady(), steady()
    dim[:, 0] *= 0.3
    fading = steady()
    fading[:, 0] *= np.linspace(1, 0.1, 200)
    dull, gone, same = steadiness([dim, fading, bright], [bright, bright, dim])
    assert (dull["unsteady"], gone["unsteady"], same["unsteady"]) == (0, 1, 0)
    assert [row["collapsed_truth"] for row in (dull, gone, same)] == [1, 0, 1]
    assert same["unsteady_truth"] == 1  # no other walk is as dim
    assert gone["unsteady_truth"] == dull["unsteady_truth"] == 0
    assert "unsteady_truth" not in steadiness([dim], [bright])[0]


def test_pooling_forgets_which_room_a_run_ended_in():
    up, down = steady(), steady()
    up[100:, 1] *= 1.5
    down[100:, 1] *= 0.5
    assert drifting(up, steady())["mean"] > 0.4
    pooled = pooled_drift([up, down])
    assert pooled["mean"] < 0.02 and set(pooled) == set(LOOKS[:3])


def test_looks_are_of_each_frame_and_motion_is_from_the_one_before():
    frames = RNG.integers(0, 256, (3, 16, 16, 3), np.uint8)
    seen = looks(frames, frames[0])
    assert seen.shape == (3, 4) and seen[0, 3] == 0
    assert seen[1, 3] == pytest.approx(np.abs(frames[1].astype(int) - frames[0]).mean())
    assert seen[2, 1] == pytest.approx(frames[2].mean())
