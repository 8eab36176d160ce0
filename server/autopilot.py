"""A hand at the controls that wanders: smooth, seeded, for worlds that nobody plays."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from model.world_model import ControlSchema

from .handle import Handle
from .protocol import Input

SMOOTHING = 0.4  # seconds until a control has gone most of the way to where it is drawn
HELD = (0.8, 4.0)  # seconds for which one aim is kept, drawn evenly
REST = 0.25  # share of the aims that let an axis go, so that the world is also looked at
ONWARD = ("KeyW", "ArrowUp")  # keys that lead on in most schemas: a walk that goes back as often goes nowhere


def wander(schema: ControlSchema, *, frame_rate: float, seed: int) -> Iterator[np.ndarray]:
    """Endless control vectors (A,) float32 in [-1, 1], one per world frame.

    Every axis follows an aim of its own through a low pass; aims are drawn anew after a while. An axis that a key
    of `ONWARD` moves up aims to that side, or rests; all others aim to both sides evenly.
    """
    rng = np.random.default_rng(seed)
    least = np.array([0.0 if _leads_on(schema, i) else -1.0 for i in range(len(schema.axes))])
    step = 1.0 - math.exp(-1.0 / (SMOOTHING * frame_rate))
    vector, aims, left = np.zeros(len(least)), np.zeros(len(least)), np.zeros(len(least))
    while True:
        is_due = left <= 0
        drawn = rng.uniform(least, 1.0) * (rng.random(len(least)) > REST)
        aims = np.where(is_due, drawn, aims)
        left = np.where(is_due, rng.uniform(*HELD, len(least)) * frame_rate, left) - 1
        vector = vector + step * (aims - vector)
        yield vector.astype(np.float32)


async def drive(
    handle: Handle, schema: ControlSchema, vectors: Iterator[np.ndarray], *, clock: Callable[[], float]
) -> None:
    """Play a session with one vector for each frame that it shows, until it ends or this is cancelled.

    The session counts as played meanwhile, so it goes on when nobody watches. `clock` is the engine's.
    """
    names = [axis.name for axis in schema.axes]
    handle.player_joined()
    try:
        with handle.subscribe() as frames:
            seq = 0
            async for _ in frames:
                axes = dict(zip(names, map(float, next(vectors)), strict=True))
                handle.controls.receive(Input(seq=seq, axes=axes), clock())
                seq += 1
    finally:
        handle.player_left()


def _leads_on(schema: ControlSchema, index: int) -> bool:
    return any(code in ONWARD and value > 0 for code, value in schema.axes[index].keys)
