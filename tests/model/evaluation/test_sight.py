"""Views against brute-force ray casting, and the split into revisits and novel frames."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.evaluation.sight import (
    NUM_RAYS,
    Views,
    azimuths,
    coverage,
    open_views,
    overlap,
    reach_of,
    sees,
    split_views,
    wall_points,
)
from model.rooms.camera import Camera

from .synthetic import ROOM, there_and_back

CAMERA = Camera()
FARTHEST = 12.0
DIVIDED = np.concatenate([ROOM, [[[4, 0], [4, 3]], [[4, 5], [4, 8]]]])  # a door from y = 3 to 5
DOOR_POSTS = np.array([[4.0, 3.0], [4.0, 5.0]])
PLACES = st.tuples(st.floats(0.5, 3.5), st.floats(0.5, 7.5), st.floats(-math.pi, math.pi))


def blocked(a, b, wall):
    """Whether the segment from a to b crosses a wall, by orientation tests."""

    def side(p, q, r):
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    c, d = wall
    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def in_picture(points, pose):
    """Where in the picture `points` are, in rays from the first; infinite for what is behind."""
    toward = np.arctan2(points[:, 1] - pose[1], points[:, 0] - pose[0]) - pose[2]
    is_ahead = np.cos(toward) > 0
    return np.where(is_ahead, (1 - np.tan(toward) / CAMERA.edge) * NUM_RAYS / 2 - 0.5, np.inf)


def views_at(*poses, walls=DIVIDED):
    poses = np.array(poses)
    return Views(poses, reach_of(CAMERA, poses, walls, farthest=FARTHEST))


@settings(max_examples=20)
@given(PLACES)
def test_rays_reach_as_far_as_marching_finds(pose):
    [reach] = reach_of(CAMERA, np.array([pose]), DIVIDED, farthest=FARTHEST)
    steps = np.arange(0, FARTHEST, 0.02)
    for ray in (0, 20, 41, 63):
        angle = pose[2] + azimuths(CAMERA)[ray]
        ends = np.array(pose[:2]) + steps[:, None] * (math.cos(angle), math.sin(angle))
        hit = [any(blocked(pose[:2], end, wall) for wall in DIVIDED) for end in ends]
        assert reach[ray] == pytest.approx(steps[hit.index(True)], abs=0.05)


@given(PLACES, st.floats(0.5, 10.0))
def test_what_is_farther_than_one_looks_is_not_seen(pose, farthest):
    poses = np.array([pose])
    [whole], [short] = (reach_of(CAMERA, poses, DIVIDED, farthest=far) for far in (FARTHEST, farthest))
    assert short == pytest.approx(np.minimum(whole, farthest))


@example((0.5, 0.5, -2.0), (0.5, 5.0, -2.0))  # many points in the corner between two rays
@given(PLACES, PLACES)
def test_what_is_seen_is_what_brute_force_finds(one, other):
    points = wall_points(CAMERA, views_at(one))[0]
    places, posts = in_picture(points, other), in_picture(DOOR_POSTS, other)
    for point, place, seen in zip(points, places, sees(CAMERA, views_at(other), points)[0], strict=True):
        if not 1 < place < NUM_RAYS - 2 or min(abs(place - posts)) < 1:
            continue  # the rays on either side do not tell what is between them
        short = point + (other[:2] - point) * 0.02  # the wall that the point is on does not count
        assert seen == (not any(blocked(other[:2], short, wall) for wall in DIVIDED))


@given(PLACES, PLACES)
def test_overlap_is_the_share_of_points_that_are_seen(one, other):
    views, others = views_at(one, other), views_at(other, one, (2, 4, 0.3))
    shared = overlap(CAMERA, views, others)
    for i, points in enumerate(wall_points(CAMERA, views)):
        assert shared[i] == pytest.approx(sees(CAMERA, others, points).mean(1))


@given(PLACES, PLACES)
def test_nothing_outside_the_picture_is_seen(one, other):
    points = wall_points(CAMERA, views_at(one))[0]
    places = in_picture(points, other)
    seen = sees(CAMERA, views_at(other), points)[0]
    assert not seen[(places < -0.51) | (places > NUM_RAYS - 0.49)].any()


def test_a_view_overlaps_with_itself_and_not_with_its_back():
    views = views_at((2, 4, 0.3), (2, 4, 0.3 + math.pi))
    assert overlap(CAMERA, views, views) == pytest.approx(np.eye(2))


def test_a_wall_hides_what_a_door_shows():
    point = np.array([[7.9, 4.0]])
    [through_door, at_wall] = sees(CAMERA, views_at((2, 4, 0.0), (2, 1, 0.4)), point)[:, 0]
    assert through_door and not at_wall


def test_turning_by_part_of_the_field_shares_the_rest():
    views = open_views(np.array([[0, 0, 0], [0, 0, CAMERA.fov / 2], [0, 0, CAMERA.fov * 1.01]]), radius=4.0)
    shared = overlap(CAMERA, views, views)[0]
    assert shared[0] == 1 and shared[1] == pytest.approx(0.5, abs=0.02) and shared[2] == 0


def test_coverage_is_the_union():
    ahead = views_at((2, 4, 0.0))
    halves = views_at((2, 4, CAMERA.fov / 2), (2, 4, -CAMERA.fov / 2))
    parts = overlap(CAMERA, ahead, halves)[0]
    assert max(parts) < 0.6
    assert coverage(CAMERA, ahead, halves) == pytest.approx(sum(parts), abs=2 / NUM_RAYS)


def test_the_way_back_is_a_revisit_once_the_way_out_is_old():
    poses = there_and_back(40)
    views = Views(poses, reach_of(CAMERA, poses, ROOM, farthest=FARTHEST))
    split = split_views(CAMERA, views, first=41, recent=19)
    assert not split.is_novel.any()
    assert not split.is_revisit[0] and split.is_revisit[-1]
    ages = np.arange(41, 81)[:, None] - np.arange(41)
    shared = overlap(CAMERA, views.at(slice(41, None)), views.at(slice(0, 41))) >= 0.5
    for i, gap in enumerate(split.gap):
        matches = ages[i][shared[i] & (ages[i] > 19)]
        assert gap == (matches.min() if len(matches) else 0)


def test_what_no_context_frame_saw_is_novel():
    turned = [(2, 4, 0.02 * i) for i in range(25)] + [(2, 4, 2.0 + 0.02 * i) for i in range(5)]
    split = split_views(CAMERA, views_at(*turned), first=25, recent=19)
    assert split.is_novel.all() and not split.is_revisit.any() and not split.gap.any()
