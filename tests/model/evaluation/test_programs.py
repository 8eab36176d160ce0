"""Paths and the controls that follow them, without a renderer."""

import math
from itertools import islice

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model.evaluation.programs import (
    RATE,
    SPEED,
    autopilot,
    control_towards,
    controls_along,
    follow,
    mirrored,
    poses_after,
    resampled,
    rounded,
    turn_by,
)
from model.rooms.camera import Camera

CAMERA = Camera()
UNITS = st.floats(-1, 1)
CONTROLS = st.lists(st.tuples(st.floats(-0.7, 0.7), st.floats(-0.7, 0.7), UNITS), min_size=1, max_size=12)
POINTS = st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=4)


@given(CONTROLS, st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.floats(-9, 9)))
def test_controls_follow_from_the_poses_that_they_lead_to(controls, start):
    poses = poses_after(CAMERA, np.array(start), np.array(controls))
    assert controls_along(CAMERA, poses) == pytest.approx(np.array(controls), abs=1e-6)


def test_a_path_faster_than_full_speed_is_refused():
    with pytest.raises(ValueError, match="full speed"):
        controls_along(CAMERA, np.array([[0, 0, 0], [2 * CAMERA.step, 0, 0]]))


@given(CONTROLS, UNITS, UNITS)
@example([(0.0, 0.0, 0.0)], 1.0, 1.0)  # 123 frames
def test_from_wherever_one_is_one_steers_towards_a_pose(controls, ahead, turn):
    """Where full speed is enough one is there after one frame, and else after some."""
    path = poses_after(CAMERA, np.zeros(3), np.array(controls))
    assert control_towards(CAMERA, path[-2], path[-1]) == pytest.approx(np.array(controls[-1]), abs=1e-5)
    here, there = np.zeros(3), np.array([9 * ahead, 0, 9 * turn])
    for _ in range(300):
        here = poses_after(CAMERA, here, control_towards(CAMERA, here, there)[None])[-1]
    assert here == pytest.approx(there, abs=1e-4)


@given(POINTS)
def test_a_walk_passes_its_waypoints_within_speed_and_rate(points):
    poses = follow(np.zeros(3), [np.array(point) for point in points])
    steps = np.diff(poses, axis=0)
    assert np.hypot(steps[:, 0], steps[:, 1]).max(initial=0) <= SPEED + 1e-9
    assert np.abs(steps[:, 2]).max(initial=0) <= RATE + 1e-9
    for point in points:
        assert np.hypot(*(poses[:, :2] - point).T).min() < 1e-9


@given(POINTS)
def test_rounding_keeps_the_ends_and_stays_near(points):
    poses = follow(np.zeros(3), [np.array(point) for point in points])
    smooth = rounded(poses)
    assert smooth[[0, -1]] == pytest.approx(poses[[0, -1]], abs=1e-9)
    assert np.hypot(*(smooth - poses)[:, :2].T).max(initial=0) <= 4 * SPEED


def test_resampling_keeps_the_ends():
    poses = turn_by((1.0, 2.0, 0.5), 1.2)
    slower = resampled(poses, 3 * len(poses))
    assert len(slower) == 3 * len(poses) and slower[[0, -1]] == pytest.approx(poses[[0, -1]])


def test_a_turn_ends_at_its_angle_in_the_frames_asked_for():
    poses = turn_by((1.0, 2.0, 0.5), -math.pi / 2, frames=30)
    assert len(poses) == 31
    assert poses[-1] == pytest.approx((1.0, 2.0, 0.5 - math.pi / 2))


def test_a_mirrored_path_comes_back():
    poses = poses_after(CAMERA, np.zeros(3), np.array([[0.5, 0.2, 0.3]] * 6))
    there = mirrored(poses)
    assert len(there) == 13 and (there == there[::-1]).all()
    again = poses_after(CAMERA, there[0], controls_along(CAMERA, there))
    assert again == pytest.approx(there, abs=1e-6)


def test_the_autopilot_is_its_seed_and_holds_its_keys():
    one, same, other = (np.stack(list(islice(autopilot(np.random.default_rng(s)), 400))) for s in (1, 1, 2))
    assert (one == same).all() and (one != other).any()
    assert np.abs(one).max() <= 1 and np.abs(one).max(0).min() > 0.2
    assert (np.diff(one, axis=0) != 0).any(1).mean() < 0.2
