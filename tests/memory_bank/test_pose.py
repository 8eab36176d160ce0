"""Distances between poses, and what a camera sees."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_bank import PoseScale
from memory_bank.pose import closeness, pose_gap, sees, view_points

SCALE = PoseScale(distance=2.0, angle=math.radians(30))
coordinates = st.floats(-20, 20)
lenses = st.fixed_dictionaries({"field_of_view": st.floats(0.3, 3.0), "radius": st.floats(0.5, 10)})


def pose(x: float, y: float, degrees: float) -> np.ndarray:
    return np.asarray([[x, y, math.radians(degrees)]], np.float32)


@pytest.mark.parametrize(
    ("other", "gap"),
    [
        (pose(1, 1, 90), 0.0),
        (pose(4, 5, 90), 2.5),  # 5 m at 2 m
        (pose(1, 1, 120), 1.0),
        (pose(1, 1, 60), 1.0),
        (pose(1, 1, 90 + 360), 0.0),
        (pose(1, 1, -90), 6.0),  # about face
        (pose(1, 3, 75), 1.5),
    ],
)
def test_the_gap_adds_distance_and_turning_by_their_scales(other, gap):
    assert pose_gap(other, pose(1, 1, 90)[0], scale=SCALE)[0] == pytest.approx(gap, abs=1e-5)


def test_turning_is_counted_the_short_way_round():
    assert pose_gap(pose(0, 0, 175), pose(0, 0, -175)[0], scale=SCALE)[0] == pytest.approx(1 / 3, abs=1e-5)


def test_a_pose_that_is_not_known_is_infinitely_far():
    unknown = np.full((1, 3), np.nan, np.float32)
    gap = pose_gap(unknown, pose(0, 0, 0)[0], scale=SCALE)
    assert gap[0] == math.inf
    assert closeness(gap)[0] == 0.0


def test_closeness_falls_with_the_gap():
    assert closeness(np.asarray([0.0, 1.0, 3.0])).tolist() == [1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("point", "is_seen"),
    [
        ((0, 2), True),  # ahead: the camera looks along +y
        ((1.9, 2), True),  # within 45 degrees
        ((2.1, 2), False),
        ((0, -2), False),
        ((0, 5.1), False),  # too far
    ],
)
def test_a_camera_sees_its_sector(point, is_seen):
    seen = sees(pose(0, 0, 90), np.asarray([point], float), field_of_view=math.pi / 2, radius=5)
    assert seen.tolist() == [[is_seen]]


@given(x=coordinates, y=coordinates, heading=st.floats(-10, 10), lens=lenses)
def test_a_camera_sees_the_points_of_its_own_view_and_its_back_sees_none(x, y, heading, lens):
    camera = np.asarray([[x, y, heading]])
    points = view_points(camera[0], num=50, **lens)
    widened = {"field_of_view": lens["field_of_view"] + 1e-6, "radius": lens["radius"] + 1e-6}
    assert sees(camera, points, **widened).all()
    assert not sees(camera + [0, 0, math.pi], points, **lens).any()


def test_view_points_are_always_the_same_and_spread_over_the_sector():
    points = view_points(np.zeros(3), field_of_view=1.0, radius=2.0, num=400)
    assert np.array_equal(points, view_points(np.zeros(3), field_of_view=1.0, radius=2.0, num=400))
    distances, angles = np.hypot(*points.T), np.arctan2(points[:, 1], points[:, 0])
    assert np.mean(distances < math.sqrt(2)) == pytest.approx(0.5, abs=0.01)  # half the area
    assert np.mean(angles < 0) == pytest.approx(0.5, abs=0.01)
    assert angles.min() == pytest.approx(-0.5, abs=0.02)


def test_who_does_not_know_its_pose_sees_nothing():
    assert not sees(np.full((1, 3), np.nan), np.zeros((4, 2)), field_of_view=3.0, radius=9.0).any()
