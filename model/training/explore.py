"""Policies that gather experience: smooth motion that often comes back to where it was."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np

Control = np.ndarray  # (A,) float32 in [-1, 1]
Policy = Iterator[Control]


@runtime_checkable
class Walkable(Protocol):
    """A world of places, moved through by `(move, strafe, turn)`."""

    @property
    def pose(self) -> np.ndarray:
        """x, y in metres, heading in radians, counter-clockwise."""

    def random_place(self, rng: np.random.Generator) -> np.ndarray:
        """Somewhere to go (2,)."""

    def way_to(self, goal: np.ndarray) -> list[np.ndarray]:
        """Places (2,) to pass on the way to `goal`, which is not among them."""


def policy_for(env: gymnasium.Env[Any, Any], rng: np.random.Generator) -> Policy:
    """The best explorer there is for `env`: where one can walk one walks, other action spaces are sampled."""
    world = env.unwrapped
    return explore(world, rng) if isinstance(world, Walkable) else sticky_random(env.action_space, rng)


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


def explore(env: Walkable, rng: np.random.Generator) -> Policy:
    """Walks, spins, there-and-backs and free motion, joined by smoothing."""
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


def _walk(env: Walkable, rng: np.random.Generator, visited: list[np.ndarray]) -> Iterator[np.ndarray]:
    """To a new place or, half of the time, to one already visited."""
    is_return = len(visited) > 1 and rng.random() < 0.5
    goal = visited[int(rng.integers(len(visited)))] if is_return else env.random_place(rng)
    speed, strafe = float(rng.uniform(0.6, 1.0)), float(rng.normal(0, 0.15))
    for waypoint in [*env.way_to(goal), goal]:
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


def _spin(env: Walkable, rng: np.random.Generator, _visited: list[np.ndarray]) -> Iterator[np.ndarray]:
    rate = float(rng.uniform(0.4, 1.0) * rng.choice((-1, 1)))
    turned, angle = 0.0, math.radians(float(rng.choice((90, 180, 360, 360, 400))))
    heading = env.pose[2]
    for _ in range(200):
        if turned >= angle:
            break
        yield np.array([0.0, 0.0, rate])
        turned += abs(_wrap(env.pose[2] - heading))
        heading = env.pose[2]


def _there_and_back(env: Walkable, rng: np.random.Generator, _visited: list[np.ndarray]) -> Iterator[np.ndarray]:
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


def _look_around(_env: Walkable, rng: np.random.Generator, _visited: list[np.ndarray]) -> Iterator[np.ndarray]:
    rate, count = float(rng.uniform(0.3, 1.0) * rng.choice((-1, 1))), int(rng.integers(6, 18))
    for sign in (1, -1, -1, 1):
        yield from [np.array([0.0, 0.0, sign * rate])] * count


def _wander(_env: Walkable, rng: np.random.Generator, _visited: list[np.ndarray]) -> Iterator[np.ndarray]:
    """As a player at the keyboard: keys held for a while, the mouse in bursts."""
    for _ in range(int(rng.integers(2, 6))):
        keys = [
            rng.choice((1, 1, 0, 0, -1)),
            rng.choice((0, 0, 0, 1, -1)),
            rng.choice((0, 0, 1, -1)) * rng.uniform(0.2, 1),
        ]
        yield from [np.array(keys, float)] * int(rng.integers(4, 20))


def _stand(_env: Walkable, rng: np.random.Generator, _visited: list[np.ndarray]) -> Iterator[np.ndarray]:
    yield from [np.zeros(3)] * int(rng.integers(3, 10))


def _wrap(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi
