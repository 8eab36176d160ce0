"""What a camera sees of a floor plan, in the plane, and how much two views share.

A view is a fan of rays, one for each of NUM_RAYS equal strips of the picture's width, with the distance to
the wall that each meets. Two views overlap by the share of one's wall points that the other sees. Limits:
doors are open up to the ceiling, furniture hides nothing, and a wall seen from afar counts as much as one
seen from nearby.
"""

from typing import NamedTuple

import numpy as np

from ..rooms.camera import Camera

# A, B views · T poses · K = NUM_RAYS · S wall segments

NUM_RAYS = 64
_SLACK = 0.05  # metres that a point may lie behind a wall, since rays are discrete
_VIEWS_AT_ONCE = 8  # bounds the memory of `overlap`


class Views(NamedTuple):
    """Cameras and how far each looks."""

    poses: np.ndarray  # (T, 3): x, y in metres, heading in radians, counter-clockwise
    reach: np.ndarray  # (T, K): metres to the wall along each ray, left to right

    def at(self, index: slice | np.ndarray) -> "Views":
        return Views(self.poses[index], self.reach[index])


def azimuths(camera: Camera) -> np.ndarray:
    """Angles (K,) of the rays to the heading, counter-clockwise, left to right in the picture."""
    offset = (np.arange(NUM_RAYS) + 0.5) / NUM_RAYS * 2 - 1
    return -np.arctan(offset * camera.edge)


def reach_of(camera: Camera, poses: np.ndarray, walls: np.ndarray, *, farthest: float) -> np.ndarray:
    """Distances (T, K) at which the rays of `poses` (T, 3) meet `walls` (S, 2, 2), segments by their ends.

    Rays end after `farthest` metres.
    """
    angles = poses[:, 2:] + azimuths(camera)
    ray = np.stack([np.cos(angles), np.sin(angles)], -1)[:, :, None]  # (T, K, 1, 2)
    start = walls[:, 0] - poses[:, None, None, :2]  # (T, 1, S, 2)
    along = walls[:, 1] - walls[:, 0]
    across = _cross(ray, along)
    with np.errstate(divide="ignore", invalid="ignore"):  # a ray along a wall meets it nowhere
        distance = _cross(start, along) / across
        place = _cross(start, ray) / across
    hit = (distance > 0) & (place >= 0) & (place <= 1)
    return np.asarray(np.where(hit, distance, np.inf).min(2, initial=np.inf).clip(max=farthest))


def open_views(poses: np.ndarray, *, radius: float) -> Views:
    """Views where walls are not known: each ray ends at `radius` metres."""
    return Views(poses, np.full((len(poses), NUM_RAYS), radius))


def wall_points(camera: Camera, views: Views) -> np.ndarray:
    """Where the rays end: (T, K, 2)."""
    angles = views.poses[:, 2:] + azimuths(camera)
    ahead = np.stack([np.cos(angles), np.sin(angles)], -1)
    return np.asarray(views.poses[:, None, :2] + views.reach[..., None] * ahead)


def sees(camera: Camera, views: Views, points: np.ndarray) -> np.ndarray:
    """Which of `views` (B) see which `points` (n, 2), walls considered: (B, n) bool."""
    x, y, heading = (column[:, None] for column in views.poses.T)
    dx, dy = points[:, 0] - x, points[:, 1] - y
    ahead, left = dx * np.cos(heading) + dy * np.sin(heading), dy * np.cos(heading) - dx * np.sin(heading)
    with np.errstate(divide="ignore", invalid="ignore"):
        place = (1 - left / ahead / camera.edge) / 2 * NUM_RAYS - 0.5
    is_framed = (ahead > 0) & (place >= -0.5) & (place < NUM_RAYS - 0.5)
    # Along a straight wall the inverse of the depth is linear in the picture, so between two rays it is exact. Where
    # they meet two walls of a corner, the corner is where the lines of the two walls cross.
    inverse = np.pad(1 / (views.reach * np.cos(azimuths(camera))), ((0, 0), (1, 1)), "reflect", reflect_type="odd")
    place = np.where(is_framed, place, 0)
    ray = place.astype(np.int64).clip(0, NUM_RAYS - 2)
    earlier, before, after, later = (np.take_along_axis(inverse, ray + i, 1) for i in range(4))
    left, right = place - ray, ray + 1 - place
    between = before * right + after * left
    corner = np.maximum(before + left * (before - earlier), after + right * (after - later))
    depth = 1 / np.minimum(between, corner)
    return np.asarray(is_framed & (ahead <= depth * 1.02 + _SLACK))


def overlap(camera: Camera, views: Views, others: Views) -> np.ndarray:
    """Share of what each of `views` (A) sees that each of `others` (B) sees too: (A, B)."""
    points = wall_points(camera, views)
    shares = []
    for first in range(0, len(points), _VIEWS_AT_ONCE):
        part = points[first : first + _VIEWS_AT_ONCE]
        seen = sees(camera, others, part.reshape(-1, 2))
        shares.append(seen.reshape(len(others.poses), len(part), NUM_RAYS).mean(2).T)
    return np.concatenate(shares) if shares else np.zeros((0, len(others.poses)))


def coverage(camera: Camera, views: Views, others: Views) -> float:
    """Share of what `views` see together that at least one of `others` sees."""
    points = wall_points(camera, views).reshape(-1, 2)
    return float(sees(camera, others, points).any(0).mean())


class Split(NamedTuple):
    """What the frames after the context show: (M,) each."""

    is_revisit: np.ndarray  # bool: what a context frame showed that is older than the recent window
    is_novel: np.ndarray  # bool: what no context frame showed
    gap: np.ndarray  # int64: age in frames of the newest context frame that makes it a revisit, else 0


def split_views(camera: Camera, views: Views, *, first: int, recent: int, least: float = 0.5) -> Split:
    """Tell revisits from novel views among the frames from `first` on; the context is what is before.

    Two frames show the same if they share at least `least` of the view, and a context frame is old if it is
    more than `recent` frames older. What only newer context frames show is neither revisit nor novel.
    """
    shared = overlap(camera, views.at(slice(first, None)), views.at(slice(0, first))) >= least
    age = np.arange(first, len(views.poses))[:, None] - np.arange(first)
    newest = np.where(shared & (age > recent), age, len(views.poses)).min(1)
    is_revisit = newest < len(views.poses)
    return Split(np.asarray(is_revisit), np.asarray(~shared.any(1)), np.where(is_revisit, newest, 0).astype(np.int64))


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])
