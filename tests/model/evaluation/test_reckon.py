"""Dead reckoning against the poses that the model itself keeps while it plays."""

import math

import numpy as np
import pytest

from model.evaluation.cases import encoded
from model.evaluation.reckon import from_start, reckoned
from model.evaluation.rollout import Record, rollout
from model.evaluation.sets import environment
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


@pytest.mark.weights
def test_pictures_tell_of_slides_along_walls(model: Rooms) -> None:
    """A walk into a wall at an angle, which lets through a part of each step, and then none."""
    env = environment(128)
    obs, info = env.reset(seed=10_000_000)
    controls = np.concatenate([np.tile(np.float32([0, 0, 0.5]), (5, 1)), np.tile(np.float32([0.9, 0, 0]), (36, 1))])
    frames, poses = [obs], [info["pose"]]
    for control in controls[1:]:
        obs, _, _, _, info = env.step(control)
        frames.append(obs)
        poses.append(info["pose"])
    truth = from_start(np.stack(poses))
    steps = np.linalg.norm(np.diff(truth[:, :2], axis=0), axis=1)[4:] / (0.9 * model.camera.step)
    assert ((0.05 < steps) & (steps < 0.98)).sum() >= 4
    assert (steps < 0.01).sum() > 10
    [record] = reckoned(model, encoded(model, np.stack(frames))[None], controls[None])
    assert np.abs(record.poses - truth).max() < 0.16  # a step


def test_poses_from_the_start_are_seen_from_it():
    poses = np.array([[3.0, 4.0, math.pi / 2], [3.0, 6.0, math.pi / 2], [2.0, 6.0, math.pi]])
    assert from_start(poses) == pytest.approx(np.array([[0, 0, 0], [2, 0, 0], [2, 1, math.pi / 2]]), abs=1e-6)
