"""How near two camera poses are, and what a camera sees: in the plane, walls unknown.

A pose is x, y in metres and heading in radians, counter-clockwise from the x axis.
"""

import math

import numpy as np

from .query import PoseScale

_GOLDEN = (math.sqrt(5) - 1) / 2
_CAMERAS_AT_ONCE = 256  # keeps the work in the cache


def pose_gap(poses: np.ndarray, target: np.ndarray, *, scale: PoseScale) -> np.ndarray:
    """Distance plus turning, each by its scale: `poses` (n, 3) to `target` (3,) -> (n,) float64; NaN poses are inf."""
    x, y, heading = poses.astype(np.float64).T
    distance = np.hypot(x - target[0], y - target[1])
    turning = np.abs((heading - target[2] + math.pi) % (2 * math.pi) - math.pi)
    gap = distance / scale.distance + turning / scale.angle
    return np.where(np.isnan(gap), np.inf, gap)


def closeness(gap: np.ndarray) -> np.ndarray:
    """1 at no gap, 1/2 at one unit, 0 at infinity."""
    return 1.0 / (1.0 + gap)


def view_points(pose: np.ndarray, *, field_of_view: float, radius: float, num: int) -> np.ndarray:
    """(num, 2) points spread evenly over the sector that a camera at `pose` sees, always the same ones."""
    i = np.arange(num) + 0.5
    distance = radius * np.sqrt(i / num)
    angle = pose[2] + ((i * _GOLDEN) % 1.0 - 0.5) * field_of_view
    return np.stack([pose[0] + distance * np.cos(angle), pose[1] + distance * np.sin(angle)], axis=1)


def sees(poses: np.ndarray, points: np.ndarray, *, field_of_view: float, radius: float) -> np.ndarray:
    """Which cameras (n, 3) see which points (m, 2): (n, m) bool. A NaN pose sees nothing."""
    seen = np.zeros((len(poses), len(points)), bool)
    for first in range(0, len(poses), _CAMERAS_AT_ONCE):
        x, y, heading = poses[first : first + _CAMERAS_AT_ONCE, :, None].transpose(1, 0, 2)
        ahead = (points[:, 0] - x) * np.cos(heading) + (points[:, 1] - y) * np.sin(heading)
        distance = np.sqrt(np.square(points[:, 0] - x) + np.square(points[:, 1] - y))
        is_within = ahead >= math.cos(min(field_of_view / 2, math.pi)) * distance
        seen[first : first + _CAMERAS_AT_ONCE] = is_within & (distance <= radius)
    return seen
