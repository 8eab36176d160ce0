"""The wandering hand: its walk by itself, and at the controls of a real session."""

import asyncio
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.world_model import ControlAxis, ControlSchema
from server.autopilot import drive, wander
from server.engine import Engine, EngineConfig
from tests.server.running import until
from tests.server.tiny_model import SCHEMA, TinyModel

WALK = ControlSchema(
    (
        ControlAxis("move", (("KeyW", 1.0), ("KeyS", -1.0))),
        ControlAxis("turn", (("ArrowRight", 0.7), ("ArrowLeft", -0.7))),
    )
)


def walk(schema: ControlSchema, frames: int, *, seed: int = 0, frame_rate: float = 30.0) -> np.ndarray:
    return np.stack(list(islice(wander(schema, frame_rate=frame_rate, seed=seed), frames)))


@given(st.integers(0, 2**53), st.integers(1, 6), st.floats(1.0, 120.0))
def test_it_stays_in_range_and_moves_smoothly(seed: int, num_axes: int, frame_rate: float) -> None:
    schema = ControlSchema(tuple(ControlAxis(f"axis {i}") for i in range(num_axes)))
    vectors = walk(schema, 60, seed=seed, frame_rate=frame_rate)
    assert vectors.shape == (60, num_axes) and vectors.dtype == np.float32
    assert np.abs(vectors).max() <= 1.0
    largest = 2 / (0.4 * frame_rate)  # from one end to the other, the steepest that the low pass lets through
    assert np.abs(np.diff(vectors, axis=0)).max() <= largest


def test_a_seed_is_a_walk() -> None:
    assert np.array_equal(walk(WALK, 200, seed=5), walk(WALK, 200, seed=5))
    assert not np.array_equal(walk(WALK, 200, seed=5), walk(WALK, 200, seed=6))


def test_it_goes_onward_and_turns_both_ways() -> None:
    vectors = walk(WALK, 30 * 600)
    assert vectors[:, 0].min() >= 0 and 0.25 < vectors[:, 0].mean() < 0.5
    assert abs(vectors[:, 1].mean()) < 0.1
    assert vectors[:, 1].min() < -0.6 and vectors[:, 1].max() > 0.6
    assert (np.abs(vectors[:, 1]) < 0.05).mean() > 0.1  # and rests now and then


async def test_it_drives_a_session_that_nobody_watches_until_it_ends() -> None:
    engine = Engine(TinyModel(), EngineConfig(player_grace=0.2))
    engine.start()
    try:
        handle = await engine.open(seed=1, name="alone")
        vectors = wander(SCHEMA, frame_rate=50.0, seed=2)
        driving = asyncio.ensure_future(drive(handle, SCHEMA, vectors, clock=engine.clock))
        with handle.subscribe() as frames:
            seen = [await frames.get() for _ in range(40)]
        assert seen[-1].applied_seq > seen[0].applied_seq
        assert np.abs(seen[-1].frame.astype(int) - seen[0].frame).mean() > 5
        assert engine.find("alone") is handle and handle.has_player
        await handle.close()
        async with asyncio.timeout(15):
            await driving
        assert not handle.has_player
    finally:
        await engine.stop(drain=False)


async def test_whoever_stops_it_frees_the_controls() -> None:
    engine = Engine(TinyModel(), EngineConfig(player_grace=0.1))
    engine.start()
    try:
        handle = await engine.open(seed=1)
        vectors = wander(SCHEMA, frame_rate=50.0, seed=2)
        driving = asyncio.ensure_future(drive(handle, SCHEMA, vectors, clock=engine.clock))
        await until(lambda: handle.has_player)
        driving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await driving
        assert not handle.has_player
        await until(lambda: handle.ended is not None)
    finally:
        await engine.stop(drain=False)
