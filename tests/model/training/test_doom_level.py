"""Depth and walls of a small level: a hall, a lower room behind a step, and a niche above eye height."""

from typing import NamedTuple

import numpy as np
import pytest

from model.rooms.camera import Camera
from model.training.doom_level import STRETCH, UNITS_PER_METRE, Level, inverse_depth, read_level

EDGE, EYE, SIZE = Camera().edge, Camera().height, 64
ONE = UNITS_PER_METRE


class Line(NamedTuple):
    x1: float
    y1: float
    x2: float
    y2: float
    is_blocking: bool


class Sector(NamedTuple):
    floor_height: float
    ceiling_height: float
    lines: list[Line]


def line(*places: float, is_blocking: bool = False) -> Line:
    return Line(*(ONE * x for x in places), is_blocking)


def up(metres: float) -> float:
    return metres * UNITS_PER_METRE / STRETCH


STEP, SILL, FENCE = line(4, -2, 4, 2), line(-2, 2, 2, 2), line(-2, -2, 4, -2, is_blocking=True)
HALL = Sector(0, up(4), [line(-2, -2, -2, 2), SILL, line(2, 2, 4, 2), STEP, FENCE])
CELLAR = Sector(-up(1.2), up(3), [STEP, line(4, 2, 6, 2), line(6, 2, 6, -2), line(6, -2, 4, -2)])
NICHE = Sector(up(2), up(3), [SILL, line(-2, 2, -2, 3), line(-2, 3, 2, 3), line(2, 3, 2, 2)])
GARDEN = Sector(0, up(4), [FENCE, line(-2, -2, -2, -9), line(-2, -9, 4, -9), line(4, -9, 4, -2)])


@pytest.fixture(scope="module")
def level() -> Level:
    return read_level([HALL, CELLAR, NICHE, GARDEN])


def depth_at(level: Level, heading: float) -> np.ndarray:
    pose = np.array([0.0, 0.0, heading])
    return 1 / inverse_depth(level, pose, eye=EYE, edge=EDGE, size=SIZE)


def down() -> np.ndarray:
    return ((np.arange(SIZE) + 0.5) / SIZE * 2 - 1) * EDGE


def test_the_middle_column_meets_floor_step_wall_lintel_and_ceiling(level: Level) -> None:
    """The hall's floor up to 4 m, then the cellar's wall at 6 m, its ceiling, the lintel before that, the hall's."""
    column, tangent = depth_at(level, 0.0)[:, SIZE // 2], down()
    height_at_step, height_at_wall = EYE - 4 * tangent, EYE - 6 * tangent
    expected = np.full(SIZE, 6.0)
    floor = height_at_step < 0
    expected[floor] = EYE / tangent[floor]
    ceiling = height_at_wall > 3
    expected[ceiling] = (3 - EYE) / -tangent[ceiling]
    expected[height_at_step > 3] = 4
    above = height_at_step > 4
    expected[above] = (4 - EYE) / -tangent[above]
    assert (height_at_wall[~floor] > -1.2).all()  # the cellar's floor stays out of view
    np.testing.assert_allclose(column, expected)
    assert {4.0, 6.0} < set(column.round(9))


def test_a_wall_is_as_far_in_all_columns_that_face_it(level: Level) -> None:
    middle = depth_at(level, np.pi)[SIZE // 2]
    np.testing.assert_allclose(middle, 2.0)


def test_a_niche_above_the_eye_has_a_wall_below_and_depth_above(level: Level) -> None:
    column, height = depth_at(level, np.pi / 2)[:, SIZE // 2], EYE - 2 * down()
    np.testing.assert_allclose(column[(height < 2) & (height > 0)], 2.0)
    assert (column[(height > 2) & (height < 3)] > 2.0).all()


def test_one_looks_through_a_fence_that_stops_a_walk(level: Level) -> None:
    np.testing.assert_allclose(depth_at(level, -np.pi / 2)[SIZE // 2, SIZE // 2], 9.0)
    barriers = {tuple(segment.ravel().round(6)) for segment in level.barriers}
    walls = {tuple(segment.ravel().round(6)) for segment in level.walls(EYE)}
    fence, step, sill = ((-2, -2, 4, -2), (4, -2, 4, 2), (-2, 2, 2, 2))
    assert {fence, step, sill} <= barriers
    assert sill in walls
    assert not {fence, step} & walls
    assert len(walls) == 12
    assert len(barriers) == 14


@pytest.mark.parametrize("heading", np.linspace(0, 6, 7))
def test_every_pixel_meets_something_wherever_one_looks(level: Level, heading: float) -> None:
    depth = depth_at(level, heading)
    assert np.isfinite(depth).all()
    assert depth.min() > 0.5
    assert depth.max() < 13
