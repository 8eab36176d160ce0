"""Dead reckoning against the poses that the model itself keeps while it plays."""

import math

import numpy as np
import pytest

from model.evaluation.reckon import from_start, reckoned
from model.evaluation.rollout import Record, rollout
from model.rooms.world import Rooms, load


@pytest.fixture(scope="module")
def model() -> Rooms:
    return load()


@pytest.mark.weights
def test_the_picture_tells_a_walk_from_a_stop(model: Rooms) -> None:
    """Two sessions under the same commands: one saw what they lead to, one saw that it stood still."""
    start = model.open(seed=0).start.latents
    controls = np.tile(np.float32([0.8, 0, 0]), (13, 1))
    record = Record(np.repeat(start, 13, 0), controls, np.zeros((13, 3), np.float32))
    [played], _ = rollout(model, [record], first=1, frames=12)
    assert played.poses[-1, 0] > 1
    walked, stood = reckoned(model, np.stack([played.latents, record.latents]), np.stack([controls] * 2))
    assert np.abs(walked.poses - played.poses).max() < 0.3
    assert np.abs(stood.poses).max() < 0.3
    assert np.array_equal(walked.latents, played.latents)


def test_poses_from_the_start_are_seen_from_it():
    poses = np.array([[3.0, 4.0, math.pi / 2], [3.0, 6.0, math.pi / 2], [2.0, 6.0, math.pi]])
    assert from_start(poses) == pytest.approx(np.array([[0, 0, 0], [2, 0, 0], [2, 1, math.pi / 2]]), abs=1e-6)
