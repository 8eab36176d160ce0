"""Dead reckoning against the poses that the model itself keeps while it plays."""

import math

import numpy as np
import pytest

from model.evaluation.cases import encoded
from model.evaluation.reckon import from_start, reckoned
from model.evaluation.rollout import Record, rollout

from ..rooms.small import rooms
from .synthetic import there_and_back, video_of


def test_reckoning_gives_the_poses_of_a_session_that_showed_the_same():
    model = rooms()
    video = video_of(there_and_back(12))
    start = encoded(model, video.frames[:1])
    empty = np.zeros((len(video.frames), *start.shape[1:]), np.float16)
    empty[0] = start[0]
    record = Record(empty, video.controls, np.zeros((len(empty), 3), np.float32))
    [played], _ = rollout(model, [record], first=1, frames=len(empty) - 1)
    assert reckoned(model, played.latents, video.controls) == pytest.approx(played.poses, abs=1e-4)
    assert np.abs(played.poses[-1]).max() > 1e-3


def test_long_videos_are_reckoned_in_parts_that_join():
    model = rooms()
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((300, 16, 16, 16)).astype(np.float16)
    controls = rng.uniform(-1, 1, (300, 3)).astype(np.float32)
    poses = reckoned(model, latents, controls)
    assert poses.shape == (300, 3) and not poses[0].any()
    later = reckoned(model, latents[120:140], controls[120:140])
    assert from_start(poses[120:140]) == pytest.approx(later, abs=1e-4)


def test_poses_from_the_start_are_seen_from_it():
    poses = np.array([[3.0, 4.0, math.pi / 2], [3.0, 6.0, math.pi / 2], [2.0, 6.0, math.pi]])
    assert from_start(poses) == pytest.approx(np.array([[0, 0, 0], [2, 0, 0], [2, 1, math.pi / 2]]), abs=1e-6)
