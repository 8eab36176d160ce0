"""How the camera of each frozen set moves: a plan places the agent in a floor plan and gives its controls."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ..rooms.camera import Camera
from .programs import (
    NoPathError,
    control_towards,
    controls_along,
    follow,
    is_free,
    mirrored,
    poses_after,
    random_place,
    random_start,
    resampled,
    rounded,
    tour,
    turn_by,
    walk_to,
)

if TYPE_CHECKING:
    from ..training.explore import Walkable
    from ..training.rooms_env import RoomsEnv

# (world just reset, randomness, number of the video) -> controls, with the agent where the first frame is
Plan = Callable[["RoomsEnv", np.random.Generator, int], Iterable[np.ndarray]]

APPROACH = 25  # frames of walking that fill the recent window before anything is asked
ACTIONS = (  # of MIND's mirrored paths: half speed for 24 frames, or a quarter turn
    (0.5, 0, 0), (-0.5, 0, 0), (0, 0.5, 0), (0, -0.5, 0), (0, 0, 0.625),
    (0, 0, -0.625), (0.5, 0, 0.3), (0.5, 0, -0.3), (0, 0.5, -0.3), (0, -0.5, 0.3),
)  # fmt: skip
TURNS = (1.0, -1.0, 0.66, -0.66, 0.33, -0.33)
MOVES = ((1.0, 0, 0), (-0.8, 0, 0), (0, 0.8, 0), (0, -0.8, 0), (0.5, 0, 0))
_NUM_TRIES = 40


def there_and_back(env: "RoomsEnv", rng: np.random.Generator, *, out: int) -> Iterable[np.ndarray]:
    """`out` frames of a walk, then the same path backwards, facing as before: ends where it began."""
    return _go(env, mirrored(tour(env, rng, num=out + 1)))


def exploring(env: "Walkable", rng: np.random.Generator) -> Iterable[np.ndarray]:
    """What training walks, without end."""
    from ..training.explore import explore  # needs what environments need

    return explore(env, rng)


def retraced(env: "Walkable", rng: np.random.Generator, *, out: int) -> Iterator[np.ndarray]:
    """`out` frames of exploring, then the same path backwards, facing as before: ends where it began.

    For worlds that are known by walking only: on the way back each step leads from where the last one did.
    """
    poses = [env.pose]
    for control in islice(exploring(env, rng), out):
        yield control
        poses.append(env.pose)
    for pose in poses[-2::-1]:
        yield control_towards(Camera(), env.pose, pose)


def out_and_home(env: "RoomsEnv", rng: np.random.Generator, *, out: int, home: int) -> Iterable[np.ndarray]:
    """LoopNav's ABA: `out` frames of a walk; then, in `home` frames, half a turn, the way back and half a turn."""
    path = tour(env, rng, num=out + 1)
    facing_back = path[::-1] + (0, 0, math.pi)
    back = np.concatenate([turn_by(path[-1], math.pi), facing_back[1:], turn_by(facing_back[-1], math.pi)[1:]])
    return _go(env, np.concatenate([path, _onward(rounded(back), home)]))


def triangle(env: "RoomsEnv", rng: np.random.Generator, *, out: int, home: int) -> Iterable[np.ndarray]:
    """LoopNav's ABCA: `out` frames by two goals, then in `home` frames the shortest way home and the first heading."""
    cells = list(env.cells)
    for _ in range(_NUM_TRIES):
        start = random_start(env, rng)
        goals = [random_place(env, rng, cells[int(i)]) for i in rng.permutation(len(cells))[:2]]
        away = walk_to(env, start, goals[0])
        away = np.concatenate([away, walk_to(env, away[-1], goals[1])[1:]])
        back = walk_to(env, away[-1], start[:2])
        turn = (start[2] - back[-1, 2] + math.pi) % (2 * math.pi) - math.pi
        back = np.concatenate([back, turn_by(back[-1], turn)[1:]])
        lengths_fit = 0.6 * out <= len(away) <= 1.15 * out and 0.3 * home <= len(back) <= 1.15 * home
        path = np.concatenate([resampled(rounded(away), out + 1), _onward(rounded(back), home)])
        if lengths_fit and is_free(env, path):
            return _go(env, path)
    raise NoPathError(f"expected a loop of {out} and {home} frames, got none in {_NUM_TRIES} tries")


def spin(env: "RoomsEnv", rng: np.random.Generator, *, angle: float, frames: int, back: bool) -> Iterable[np.ndarray]:
    """A short walk, then a turn on the spot to either side and, if `back`, the same turn back."""
    path = tour(env, rng, num=APPROACH)
    turn = turn_by(path[-1], angle * rng.choice((-1, 1)), frames=frames)
    return _go(env, np.concatenate([path, (mirrored(turn) if back else turn)[1:]]))


def there_and_mirrored(env: "RoomsEnv", rng: np.random.Generator, number: int, *, frames: int) -> Iterable[np.ndarray]:
    """MIND's symmetric path: one of ACTIONS for `frames` frames, then its mirror."""
    path = _approached(env, rng, np.tile(ACTIONS[number % len(ACTIONS)], (frames, 1)))
    return _go(env, np.concatenate([path[: APPROACH - 1], mirrored(path[APPROACH - 1 :])]))


def turning(env: "RoomsEnv", rng: np.random.Generator, number: int, *, frames: int) -> Iterable[np.ndarray]:
    """A short walk, then one of TURNS."""
    return _go(env, _approached(env, rng, np.tile((0, 0, TURNS[number % len(TURNS)]), (frames, 1))))


def moving(env: "RoomsEnv", rng: np.random.Generator, number: int, *, frames: int) -> Iterable[np.ndarray]:
    """A short walk, then one of MOVES with nothing in the way."""
    return _go(env, _approached(env, rng, np.tile(MOVES[number % len(MOVES)], (frames, 1))))


def into_wall(env: "RoomsEnv", rng: np.random.Generator, *, frames: int) -> Iterable[np.ndarray]:
    """Straight at a wall that stops the walk about half a metre after the first APPROACH frames."""
    control = np.array([0.6, 0.0, 0.0], np.float32)
    cells, camera = list(env.cells), Camera()
    for _ in range(_NUM_TRIES * 4):
        room = env.cells[cells[int(rng.integers(len(cells)))]]
        side = int(rng.integers(4))
        along = rng.uniform(0.2, 0.8)
        x = room.min_x + along * (room.max_x - room.min_x)
        y = -(room.min_z + along * (room.max_z - room.min_z))
        radius = env.agent.radius
        stop = ((room.max_x - radius, y), (x, -room.min_z - radius), (room.min_x + radius, y), (x, radius - room.max_z))
        heading = side * math.pi / 2
        ahead = np.array([math.cos(heading), math.sin(heading)])
        approach = (APPROACH - 1) * 0.6 * camera.step + rng.uniform(0.4, 0.7)
        start = np.append(stop[side] - ahead * approach, heading)
        beyond = np.append(stop[side] + ahead * 0.15, heading)[None]
        if is_free(env, follow(start, [stop[side] - 0.05 * ahead])) and not is_free(env, beyond):
            env.set_pose(start)
            return [control] * (APPROACH - 1 + frames)
    raise NoPathError("expected a wall to walk into, got none")


def _approached(env: "RoomsEnv", rng: np.random.Generator, controls: np.ndarray) -> np.ndarray:
    """A walk of APPROACH poses after which `controls` meet no obstacle, and where they lead."""
    for _ in range(_NUM_TRIES):
        walk = tour(env, rng, num=APPROACH)
        after = poses_after(Camera(), walk[-1], controls)
        if is_free(env, after):
            return np.concatenate([walk, after[1:]])
    raise NoPathError(f"expected a free way for {len(controls)} frames, got none in {_NUM_TRIES} tries")


def _onward(poses: np.ndarray, num: int) -> np.ndarray:
    """The path in `num` poses, without its first, which is already there."""
    return resampled(poses, num + 1)[1:]


def _go(env: "RoomsEnv", poses: np.ndarray) -> Iterable[np.ndarray]:
    env.set_pose(poses[0])
    return controls_along(Camera(), poses)
