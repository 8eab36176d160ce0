"""Scripted walks through a floor plan: deterministic paths as poses, and the controls that follow them."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..rooms.camera import Camera, move

if TYPE_CHECKING:
    from ..training.rooms_env import RoomsEnv

# T poses: (T, 3) float64, x and y in metres, heading in radians, counter-clockwise and not wrapped

SPEED = 0.12  # metres per frame of a walk
RATE = math.radians(5.0)  # radians per frame of a turn
_SMOOTHING = 9  # frames over which corners are rounded
_MARGIN = 1.05  # on the body's radius, so that rounding never makes a planned path collide
_LONGEST_TURN = math.ceil(math.pi / RATE)
_NUM_TRIES = 60

Cell = tuple[int, int]


class NoPathError(RuntimeError):
    """A floor plan in which the wanted path does not fit."""


def controls_along(camera: Camera, poses: np.ndarray) -> np.ndarray:
    """The controls (T - 1, 3) float32 that `camera.move` turns into `poses` (T, 3).

    Raises ValueError if a step is longer or a turn wider than full speed.
    """
    controls = _wanted(camera, poses)
    if np.abs(controls).max(initial=0) > 1 + 1e-6:
        raise ValueError(f"expected a path within full speed, got controls up to {np.abs(controls).max():.2f}")
    return controls.clip(-1, 1).astype(np.float32)


def control_towards(camera: Camera, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The control (3,) float32 from pose `here` (3,) to `there` (3,), each axis as far as full speed goes."""
    return np.asarray(_wanted(camera, np.stack([here, there]))[0].clip(-1, 1), np.float32)


def poses_after(camera: Camera, start: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """Where `controls` (n, 3) lead from `start` (3,) with nothing in the way: (n + 1, 3), the start first."""
    poses = [torch.from_numpy(np.asarray(start, np.float64))]
    for control in torch.from_numpy(np.asarray(controls, np.float64)):
        poses.append(move(camera, poses[-1], control))
    return torch.stack(poses).numpy()


def is_free(env: "RoomsEnv", poses: np.ndarray) -> bool:
    """Whether the agent fits at each of `poses`, with a little margin."""
    for x, y, _ in np.unique(poses * (1, 1, 0), axis=0):
        if env.intersect(env.agent, np.array([x, 0.0, -y]), env.agent.radius * _MARGIN):
            return False
    return True


def follow(start: np.ndarray, waypoints: Sequence[np.ndarray]) -> np.ndarray:
    """Turn to each waypoint, then walk to it: (T, 3), with `start` first."""
    here = np.asarray(start, np.float64)
    legs = [here[None]]
    for waypoint in waypoints:
        dx, dy = waypoint[0] - here[0], waypoint[1] - here[1]
        if dx == dy == 0:
            continue
        turned = turn_by(here, _wrap(math.atan2(dy, dx) - here[2]))
        steps = math.ceil(math.hypot(dx, dy) / SPEED)
        walked = turned[-1] + np.arange(1, steps + 1)[:, None] / steps * (dx, dy, 0.0)
        legs += [turned[1:], walked]
        here = walked[-1]
    return np.concatenate(legs)


def turn_by(pose: Sequence[float] | np.ndarray, angle: float, *, frames: int = 0) -> np.ndarray:
    """Turn on the spot by `angle`, in `frames` frames or at RATE: (T, 3), with `pose` first."""
    steps = frames or math.ceil(abs(angle) / RATE)
    share = np.arange(steps + 1)[:, None] / max(steps, 1)
    return np.asarray(pose, np.float64) + share * (0.0, 0.0, angle)


def rounded(poses: np.ndarray) -> np.ndarray:
    """A path with its corners rounded, as a player turns while walking; the ends stay."""
    if len(poses) < _SMOOTHING:
        return poses
    half = _SMOOTHING // 2
    padded = np.pad(poses, ((half, half), (0, 0)), mode="reflect", reflect_type="odd")
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, _SMOOTHING, axis=0).mean(-1))


def resampled(poses: np.ndarray, num: int) -> np.ndarray:
    """The same path in `num` poses, by linear interpolation: slower or faster."""
    places = np.linspace(0, len(poses) - 1, num)
    return np.stack([np.interp(places, np.arange(len(poses)), column) for column in poses.T], 1)


def tour(env: "RoomsEnv", rng: np.random.Generator, *, num: int) -> np.ndarray:
    """A walk of `num` poses from a random place through the doors to one random goal after another.

    Raises NoPathError if furniture stands in the way of all that were tried.
    """
    for _ in range(_NUM_TRIES):
        path = rounded(_setting_off(_extended(env, rng, random_start(env, rng)[None], num + _LONGEST_TURN)))
        if len(path) >= num and is_free(env, path):
            return path[:num]
    raise NoPathError(f"expected room for a walk of {num} frames, got {len(env.cells)} rooms without")


def walk_to(env: "RoomsEnv", start: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """From `start` (3,) through the doors to `goal` (2,): (T, 3), with `start` first. It may hit furniture."""
    return follow(start, [*_way(env, start[:2], goal), goal])


def random_place(env: "RoomsEnv", rng: np.random.Generator, cell: Cell) -> np.ndarray:
    """A place (2,) in a room where the agent fits; raises NoPathError if none is found."""
    room = env.cells[cell]
    for _ in range(_NUM_TRIES):
        x = rng.uniform(room.min_x + 0.8, room.max_x - 0.8)
        y = -rng.uniform(room.min_z + 0.8, room.max_z - 0.8)
        if is_free(env, np.array([[x, y, 0.0]])):
            return np.array([x, y])
    raise NoPathError(f"expected a free place in room {cell}, got none")


def random_start(env: "RoomsEnv", rng: np.random.Generator) -> np.ndarray:
    """A free pose (3,) anywhere."""
    cells = list(env.cells)
    return np.append(random_place(env, rng, cells[int(rng.integers(len(cells)))]), rng.uniform(-math.pi, math.pi))


def mirrored(poses: np.ndarray) -> np.ndarray:
    """A path and the same way back, facing as on the way out: (2T - 1, 3)."""
    return np.concatenate([poses, poses[-2::-1]])


def autopilot(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Blind play without end, as at a keyboard: keys held for a while, turns in bursts; (3,) float32."""
    while True:
        keys = (rng.choice((1, 1, 1, 0, -1)), rng.choice((0, 0, 0, 1, -1)), rng.choice((0, 0, 1, -1)))
        control = np.array(keys, np.float32) * rng.uniform((0.5, 0.3, 0.2), (1.0, 0.8, 1.0)).astype(np.float32)
        for _ in range(int(rng.integers(6, 24))):
            yield control


def _extended(env: "RoomsEnv", rng: np.random.Generator, path: np.ndarray, num: int) -> np.ndarray:
    """`path` continued to random goals until it has `num` poses and some to spare, or as far as it gets."""
    cells = list(env.cells)
    for _ in range(_NUM_TRIES):
        if len(path) >= num + _SMOOTHING:
            break
        goal = random_place(env, rng, cells[int(rng.integers(len(cells)))])
        leg = walk_to(env, path[-1], goal)
        if is_free(env, leg):
            path = np.concatenate([path, leg[1:]])
    return path


def _setting_off(path: np.ndarray) -> np.ndarray:
    """A path without its first turn, but for the last frames of it."""
    standing = int((path[:, :2] == path[0, :2]).all(1).sum())
    return path[max(0, standing - _SMOOTHING) :]


def _way(env: "RoomsEnv", start: np.ndarray, goal: np.ndarray) -> list[np.ndarray]:
    """Waypoints before and behind each door on the way with the fewest rooms."""
    here, there = _cell_at(env, start), _cell_at(env, goal)
    before: dict[Cell, Cell] = {here: here}
    queue = [here]
    for cell in queue:
        for a, b in env.doors:
            if a == cell and b not in before:
                before[b] = cell
                queue.append(b)
    cells = [there]
    while cells[-1] != here:
        cells.append(before[cells[-1]])
    points = []
    for b, a in zip(cells, cells[1:], strict=False):
        through = 1.1 * np.array([b[0] - a[0], a[1] - b[1]])  # rows of cells go down the y axis
        points += [env.doors[a, b] + through, env.doors[a, b] - through]
    return points[::-1]


def _cell_at(env: "RoomsEnv", point: np.ndarray) -> Cell:
    """The room at `point`, or the nearest."""

    def outside(room: Any) -> float:
        dx = max(room.min_x - point[0], point[0] - room.max_x, 0)
        dy = max(room.min_z + point[1], -point[1] - room.max_z, 0)
        return float(dx + dy)

    return min(env.cells, key=lambda cell: outside(env.cells[cell]))


def _wanted(camera: Camera, poses: np.ndarray) -> np.ndarray:
    """What leads along `poses` (T, 3), full speed or not: (T - 1, 3)."""
    turn = -np.diff(poses[:, 2]) / camera.turn
    dx, dy = np.diff(poses[:, :2], axis=0).T / camera.step
    cos, sin = np.cos(poses[1:, 2]), np.sin(poses[1:, 2])
    return np.stack([dx * cos + dy * sin, dx * sin - dy * cos, turn], 1)


def _wrap(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi
