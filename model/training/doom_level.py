"""The floor plan of a Doom level in metres: what stops a walk, and how far away what one sees is.

The engine's own depth buffer has 8 bits, a step of which is 0.2 m, so depth is computed from the plan. A level is flat
sectors, each with a floor and a ceiling, joined by lines. Legend: L lines, S sectors, n columns and rows of a picture.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

UNITS_PER_METRE = 32.8  # the player's eyes are then 1.5 m up, as those of `rooms.Camera` are
STRETCH = 1.2  # heights on the screen: Doom was drawn for pixels that are taller than wide
_TALLEST_STEP, _LOWEST_GAP = 24.0, 56.0  # units that a player climbs, and fits below
_SOLID = -1  # beyond a line: nothing


class Level(NamedTuple):
    """Lines from `starts` to `ends` and the sectors on both sides of each, in no order."""

    starts: np.ndarray  # (L, 2)
    ends: np.ndarray  # (L, 2)
    sides: np.ndarray  # (L, 2) indices of sectors, or _SOLID
    is_barrier: np.ndarray  # (L,) bool: nobody passes
    floors: np.ndarray  # (S,) metres as seen on the screen, as all heights
    ceilings: np.ndarray  # (S,)

    @property
    def barriers(self) -> np.ndarray:
        """What stops a walk: segments (n, 2, 2)."""
        return np.asarray(self._segments[self.is_barrier])

    def walls(self, eye: float) -> np.ndarray:
        """What stops a level look from `eye` metres up: segments (n, 2, 2)."""
        floor, ceiling = self.floors[self.sides].max(1), self.ceilings[self.sides].min(1)
        return np.asarray(self._segments[(self.sides == _SOLID).any(1) | (floor > eye) | (ceiling < eye)])

    @property
    def _segments(self) -> np.ndarray:
        return np.stack([self.starts, self.ends], 1)


def read_level(sectors: Sequence[Any]) -> Level:
    """The plan in `vizdoom.GameState.sectors`, which lists a line once for each of its sides."""
    sides: dict[tuple[float, ...], list[int]] = defaultdict(list)
    blocking: dict[tuple[float, ...], bool] = {}
    for i, sector in enumerate(sectors):
        for line in sector.lines:
            key = (line.x1, line.y1, line.x2, line.y2)
            sides[key].append(i)
            blocking[key] = line.is_blocking
    ends = np.array(list(sides)).reshape(-1, 2, 2)
    pairs = np.array([(*found, _SOLID)[:2] for found in sides.values()])
    floors, ceilings = (np.array([getattr(s, name) for s in sectors]) for name in ("floor_height", "ceiling_height"))
    step = np.abs(np.diff(floors[pairs], axis=1))[:, 0]
    gap = ceilings[pairs].min(1) - floors[pairs].max(1)
    stops = (pairs == _SOLID).any(1) | np.array(list(blocking.values())) | (step > _TALLEST_STEP) | (gap < _LOWEST_GAP)
    starts, ends = ends[:, 0] / UNITS_PER_METRE, ends[:, 1] / UNITS_PER_METRE
    return Level(starts, ends, pairs, stops, *(heights * STRETCH / UNITS_PER_METRE for heights in (floors, ceilings)))


def inverse_depth(level: Level, pose: np.ndarray, *, eye: float, edge: float, size: int) -> np.ndarray:
    """1 / distance along the view, (size, size) in 1/m, seen from `pose` (x, y, heading) and `eye` metres up.

    `edge` is half the picture's width at distance 1. Things that stand in the level are not part of its plan.
    """
    tangent = ((np.arange(size) + 0.5) / size * 2 - 1) * edge  # to the right and downwards
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    rays = np.stack([cos + tangent * sin, sin - tangent * cos], 1)  # (n, 2), each 1 m along the view
    far, met = _crossings(level, pose[:2], rays)
    sector = _sector_at(level, met)
    depth = np.full((size, size), np.inf)  # [column, row]
    for line, distance in zip(*_in_order(far, met), strict=True):
        is_open = np.isinf(depth)
        flat = _to_flat(eye - level.floors[sector], level.ceilings[sector] - eye, tangent)
        depth = np.where(is_open & (flat <= distance[:, None]), flat, depth)
        beyond = np.where(level.sides[line, 0] == sector, level.sides[line, 1], level.sides[line, 0])
        height = eye - tangent * distance[:, None]
        meets = (beyond == _SOLID)[:, None] | (height < level.floors[beyond, None])
        meets |= height > level.ceilings[beyond, None]
        depth = np.where(np.isinf(depth) & meets, distance[:, None], depth)
        sector = np.where((beyond == _SOLID) | np.isinf(distance), sector, beyond)
    return np.ascontiguousarray(1 / depth.T)


def _crossings(level: Level, place: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which lines each ray meets, (n, L) bool, and how far away, (n, L). No ray slips between two lines."""
    start, end = level.starts - place, level.ends - place
    is_left, was_left = (rays[:, :1] * x[:, 1] - rays[:, 1:] * x[:, 0] >= 0 for x in (end, start))
    along = end - start
    with np.errstate(divide="ignore", invalid="ignore"):  # a ray along a line does not meet it
        across = rays[:, :1] * along[:, 1] - rays[:, 1:] * along[:, 0]
        distance = (start[:, 0] * along[:, 1] - start[:, 1] * along[:, 0]) / across
    met = (is_left != was_left) & (distance > 0)
    return np.where(met, distance, np.inf), met


def _in_order(far: np.ndarray, met: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lines (k, n) and distances (k, n), nearest first, as many as the longest row has; inf where there are none."""
    order = far.argsort(1)[:, : met.sum(1).max()]
    return order.T, np.take_along_axis(far, order, 1).T


def _sector_at(level: Level, met: np.ndarray) -> np.ndarray:
    """The sector in which each ray begins: the one out of which it comes an odd number of times. (n,)"""
    bounds = np.zeros((len(level.floors) + 1, len(level.sides)), bool)  # the last row is for _SOLID
    bounds[level.sides.T, np.arange(len(level.sides))] = True
    return np.asarray((met.astype(np.int64) @ bounds[:-1].T.astype(np.int64) % 2).argmax(1))


def _to_flat(below: np.ndarray, above: np.ndarray, tangent: np.ndarray) -> np.ndarray:
    """How far each pixel's ray (n, n), column by column, goes to a floor `below` (n,) or a ceiling `above` the eye."""
    return np.asarray(np.where(tangent > 0, below[:, None], above[:, None]) / np.abs(tangent))
