"""What memories show of where the camera will be, by how far each of them sees: in the plane, walls included.

A memory's sight are R inverse distances in 1/m, measured along its heading, at the middles of R equal strips of its
picture, left to right. Poses are those of `pose`. A target is a camera at an expected pose, its picture COLUMNS wide.

n memories · R rays · k of n that look there · c of the COLUMNS where anything is known
"""

import math

import numpy as np

COLUMNS = 16  # of a target
_FARTHEST = 20.0  # metres; what sees farther sees nothing
_NEAREST = 0.1  # metres ahead of a camera; what is nearer is not in its picture
_SAME = 0.8  # share of a distance by which two memories of one surface may differ: furniture is in between
_PARALLAX = 2.5  # how the worth of a memory falls with how far aside it was, in distances of what it shows
_WITHIN = 3.0  # times the nearest known distance at which what a ray ends at may still be seen


def worth(poses: np.ndarray, sight: np.ndarray, targets: np.ndarray, *, field_of_view: float, most: int) -> np.ndarray:
    """How well each memory shows each column of the views from `targets` (P, 3): (n, P * COLUMNS) in [0, 1].

    Of memories at `poses` (n, 3) with `sight` (n, R); a NaN pose shows nothing. For each target the `most` that look
    there with the most rays are looked at closely, ties by order; the others count as 0.
    """
    edge = math.tan(field_of_view / 2)
    poses, targets = poses.astype(np.float32), targets.astype(np.float32)
    ahead = 1 / np.maximum(sight, np.float32(1 / _FARTHEST))
    ends = _in_world(poses.T[..., None], ahead, ahead * _strips(sight.shape[1], edge))
    shown = np.zeros((len(targets), len(poses), COLUMNS), np.float32)
    for worths, target in zip(shown, targets, strict=True):
        nearest, rays = _surface(target, ends, edge=edge)
        rows, known = np.sort(np.argsort(-rays, kind="stable")[:most]), np.flatnonzero(np.isfinite(nearest))
        rows = rows[rays[rows] > 0]
        worths[np.ix_(rows, known)] = _shown(poses[rows], sight[rows], target, nearest[known], known, edge=edge)
    return np.concatenate(shown, axis=1)


def pick(worths: np.ndarray, *, num: int, least: float) -> tuple[list[int], list[float]]:
    """Rows of `worths` (n, m) that show the most together, and what each adds to the mean over columns, falling.

    Greedy maximisation of a submodular function: at least 1 - 1/e of the best (Nemhauser, Wolsey and Fisher, 1978).
    Ends after `num` rows or when none adds `least`; ties go to the lower row.
    """
    best = np.zeros(worths.shape[1], worths.dtype)
    rows: list[int] = []
    gains: list[float] = []
    while len(rows) < min(num, len(worths)):
        gain = np.maximum(worths - best, 0).mean(1)
        row = int(gain.argmax())
        if gain[row] < least:
            break
        rows.append(row)
        gains.append(float(gain[row]))
        best = np.maximum(best, worths[row])
    return rows, gains


def _surface(target: np.ndarray, ends: np.ndarray, *, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """How far ahead of `target` (3,) its columns meet what memories see, and how many rays of each memory end there.

    Of the `ends` (2, n, R) of their rays: (COLUMNS,), infinite where none is, and (n,).
    """
    ahead, right = _seen_from(target, *ends)
    column, is_framed = _columns(ahead, right, edge, COLUMNS)
    memory, ray = np.nonzero(is_framed)
    ahead, column = ahead[memory, ray], column[memory, ray].astype(np.int64)
    nearest = np.full(COLUMNS, np.inf, np.float32)
    np.minimum.at(nearest, column, ahead)
    return nearest, np.bincount(memory[ahead <= _WITHIN * nearest[column]], minlength=ends.shape[1])


def _shown(
    poses: np.ndarray, sight: np.ndarray, target: np.ndarray, surface: np.ndarray, known: np.ndarray, *, edge: float
) -> np.ndarray:
    """How well memories (k) show what is `surface` (c,) metres ahead of `target` in its columns `known`: (k, c)."""
    points = _in_world(target, surface, surface * _strips(COLUMNS, edge)[known])
    ahead, aside = _seen_from(poses.T[..., None], *points[:, None])
    place, is_framed = _columns(ahead, aside, edge, sight.shape[1])
    ahead = np.maximum(ahead, _NEAREST)
    # Along a straight wall the inverse of the distance is linear in the picture.
    place = np.where(is_framed, place - 0.5, 0).clip(0, sight.shape[1] - 1)
    ray = np.minimum(place.astype(np.int64), sight.shape[1] - 2)
    before, after = (np.take_along_axis(sight, ray + i, 1).astype(np.float32) for i in (0, 1))
    off = (before + (place - ray) * (after - before)) * ahead - 1
    away = np.hypot(poses[:, :1] - target[0], poses[:, 1:2] - target[1])
    height = np.minimum(1, ahead / surface)  # from nearer by one sees less of a wall's height
    side = _alike(points[:, None] - poses.T[:2, :, None], points[:, None] - target[:2, None, None])
    return np.asarray(is_framed * height * side * np.exp(-np.square(off / _SAME) - _PARALLAX * away / surface))


def _alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How much vectors (2, ...) point the same way, in [0, 1]: from opposite ways one sees either side of a wall."""
    cosine: np.ndarray = (one * other).sum(0) / np.maximum(np.hypot(*one) * np.hypot(*other), 1e-6)
    return 0.5 + 0.5 * cosine


def _strips(num: int, edge: float) -> np.ndarray:
    """Tangents (num,) of the strips' middles, to the right."""
    return (((np.arange(num) + 0.5) / num * 2 - 1) * edge).astype(np.float32)


def _columns(ahead: np.ndarray, right: np.ndarray, edge: float, num: int) -> tuple[np.ndarray, np.ndarray]:
    """In which of `num` columns of a picture points are, as fractions from the left edge, and whether in any."""
    place = (right / np.maximum(ahead, _NEAREST) / edge + 1) * (num / 2)
    return place, (ahead > _NEAREST) & (place >= 0) & (place < num)


def _in_world(pose: np.ndarray, ahead: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Where points `ahead` and to the `right` of `pose` (3, ...) are: (2, ...)."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    return np.stack([pose[0] + ahead * cos + right * sin, pose[1] + ahead * sin - right * cos])


def _seen_from(pose: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far points at `x`, `y` are ahead and to the right of `pose` (3, ...)."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    return (x - pose[0]) * cos + (y - pose[1]) * sin, (x - pose[0]) * sin - (y - pose[1]) * cos
