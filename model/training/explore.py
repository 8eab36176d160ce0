"""Policies that gather experience: smooth motion that often comes back to where it was."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np

Control = np.ndarray  # (A,) float32 in [-1, 1]
Policy = Iterator[Control]


def policy_for(env: gymnasium.Env[Any, Any], rng: np.random.Generator) -> Policy:
    """The best explorer there is for `env`: floor plans are walked, other action spaces are sampled."""
    from .rooms_env import RoomsEnv

    world = env.unwrapped
    return explore_rooms(world, rng) if isinstance(world, RoomsEnv) else sticky_random(env.action_space, rng)


def sticky_random(space: gymnasium.Space[Any], rng: np.random.Generator) -> Policy:
    """Hold a random action for 2 to 20 frames, for any Box or Discrete space, as controls in [-1, 1]."""
    while True:
        control = rng.uniform(-1, 1, control_size(space)).astype(np.float32)
        if isinstance(space, gymnasium.spaces.Discrete):
            control = np.eye(int(space.n), dtype=np.float32)[int(rng.integers(space.n))]
        for _ in range(int(rng.integers(2, 21))):
            yield control


def control_size(space: gymnasium.Space[Any]) -> int:
    """Components of a control vector: one per Box dimension, or a one-hot of the Discrete choices.

    Raises ValueError for other spaces.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(space.n)
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        return space.shape[0]
    raise ValueError(f"expected a Discrete or a one-dimensional Box action space, got {space}")


def explore_rooms(env: Any, rng: np.random.Generator) -> Policy:
    """Walks, spins, there-and-backs and free motion through a `RoomsEnv`, joined by smoothing."""
    smooth = np.zeros(3)
    inertia = float(rng.uniform(0.3, 0.75))
    visited: list[np.ndarray] = [env.pose[:2]]
    behaviours: list[tuple[float, Callable[..., Iterator[np.ndarray]]]] = [
        (0.40, _walk), (0.14, _spin), (0.12, _there_and_back), (0.10, _look_around), (0.18, _wander), (0.06, _stand)
    ]  # fmt: skip
    weights = np.array([weight for weight, _ in behaviours])
    while True:
        behave = behaviours[int(rng.choice(len(behaviours), p=weights))][1]
        for wanted in behave(env, rng, visited):
            smooth = inertia * smooth + (1 - inertia) * np.clip(wanted, -1, 1)
            yield np.where(np.abs(smooth) < 0.02, 0, smooth).astype(np.float32)


def _walk(env: Any, rng: np.random.Generator, visited: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Through doors to a new place or, half of the time, to one already visited."""
    if len(visited) > 1 and rng.random() < 0.5:
        goal = visited[int(rng.integers(len(visited)))]
    else:
        room = list(env.cells.values())[int(rng.integers(len(env.cells)))]
        goal = np.array([rng.uniform(room.min_x + 1, room.max_x - 1), -rng.uniform(room.min_z + 1, room.max_z - 1)])
    speed, strafe = float(rng.uniform(0.6, 1.0)), float(rng.normal(0, 0.15))
    for waypoint in [*_route(env, goal), goal]:
        for _ in range(120):
            x, y, heading = env.pose
            offset = waypoint - (x, y)
            if np.hypot(*offset) < 0.5:
                break
            error = _wrap(math.atan2(offset[1], offset[0]) - heading)
            yield np.array([speed * max(0.0, math.cos(error)) ** 2, strafe, -2.0 * error])
            if abs(error) < 0.3 and np.hypot(*(env.pose[:2] - (x, y))) < 0.02:  # a landmark is in the way
                side = float(rng.choice((-1, 1)))
                yield from [np.array([-0.3, side, 0.0])] * 8
    visited.append(env.pose[:2])
    del visited[:-40]


def _spin(env: Any, rng: np.random.Generator, _visited: list[np.ndarray]) -> Iterator[np.ndarray]:
    rate = float(rng.uniform(0.4, 1.0) * rng.choice((-1, 1)))
    turned, angle = 0.0, math.radians(float(rng.choice((90, 180, 360, 360, 400))))
    heading = env.pose[2]
    for _ in range(200):
        if turned >= angle:
            break
        yield np.array([0.0, 0.0, rate])
        turned += abs(_wrap(env.pose[2] - heading))
        heading = env.pose[2]


def _there_and_back(env: Any, rng: np.random.Generator, _visited: list[np.ndarray]) -> Iterator[np.ndarray]:
    """A short path and its mirror, or a walk, a half turn and the way back."""
    out = [
        control
        for _ in range(int(rng.integers(1, 4)))
        for control in [
            np.array([rng.choice((1, 0.7, 0)), rng.choice((0, 0, 0.8, -0.8)), rng.choice((0, 0.4, -0.4, 1, -1))])
        ]
        * int(rng.integers(5, 20))
    ]
    yield from out
    if rng.random() < 0.5:
        yield from (-control for control in reversed(out))
    else:
        start = env.pose[2]
        while abs(_wrap(env.pose[2] - start)) < math.pi - 0.15:
            yield np.array([0.0, 0.0, 1.0])
        yield from (control * (1, 1, -1) for control in reversed(out))


def _look_around(_env: Any, rng: np.random.Generator, _visited: list[np.ndarray]) -> Iterator[np.ndarray]:
    rate, count = float(rng.uniform(0.3, 1.0) * rng.choice((-1, 1))), int(rng.integers(6, 18))
    for sign in (1, -1, -1, 1):
        yield from [np.array([0.0, 0.0, sign * rate])] * count


def _wander(_env: Any, rng: np.random.Generator, _visited: list[np.ndarray]) -> Iterator[np.ndarray]:
    """As a player at the keyboard: keys held for a while, the mouse in bursts."""
    for _ in range(int(rng.integers(2, 6))):
        keys = [
            rng.choice((1, 1, 0, 0, -1)),
            rng.choice((0, 0, 0, 1, -1)),
            rng.choice((0, 0, 1, -1)) * rng.uniform(0.2, 1),
        ]
        yield from [np.array(keys, float)] * int(rng.integers(4, 20))


def _stand(_env: Any, rng: np.random.Generator, _visited: list[np.ndarray]) -> Iterator[np.ndarray]:
    yield from [np.zeros(3)] * int(rng.integers(3, 10))


def _route(env: Any, goal: np.ndarray) -> list[np.ndarray]:
    """Doors on the shortest way, in number of rooms, from where the agent stands to `goal`."""
    start, end = _cell_at(env, env.pose[:2]), _cell_at(env, goal)
    paths: dict[Any, list[np.ndarray]] = {start: []}
    queue = [start]
    for cell in queue:
        for (a, b), door in env.doors.items():
            if a == cell and b not in paths:
                paths[b] = [*paths[a], door]
                queue.append(b)
    return paths.get(end, [])


def _cell_at(env: Any, point: np.ndarray) -> Any:
    def outside(room: Any) -> float:
        dx = max(room.min_x - point[0], point[0] - room.max_x, 0)
        dz = max(room.min_z + point[1], -point[1] - room.max_z, 0)
        return float(dx + dz)

    return min(env.cells, key=lambda cell: outside(env.cells[cell]))


def _wrap(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi
