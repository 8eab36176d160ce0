"""What the engine's tests share: models that are slow or fail, and the ways to run, watch and steer an engine."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from model.world_model import Section
from server.diary import DiaryConfig
from server.engine import Engine, EngineConfig
from server.feed import Mailbox, Produced
from server.handle import Handle
from server.journal import Reader
from server.protocol import Input
from server.world import replay
from server.worlds import newest_world

from .tiny_model import TinyJob, TinyModel, TinyState

PATIENCE = 60.0  # seconds: of a machine that is busy with other things
KEYS = ("ArrowRight", "KeyW", "ArrowLeft", "KeyS")


class SlowModel(TinyModel):
    """Takes its time for every step, and notes how many shared it."""

    def __init__(self, *, step_seconds: float = 0.005, **sizes: int) -> None:
        super().__init__(**sizes)
        self.step_seconds = step_seconds
        self.batches: list[int] = []

    def advance(self, jobs: Sequence[TinyJob]) -> None:
        time.sleep(self.step_seconds)
        self.batches.append(len(jobs))
        super().advance(jobs)


class FailingModel(TinyModel):
    """Fails where it is told to: `failures[stage]` times, at sessions of the seed 13 only."""

    def __init__(self, *, decodes_aside: bool = False, **failures: int) -> None:
        super().__init__(decodes_aside=decodes_aside)
        self.failures = failures

    def advance(self, jobs: Sequence[TinyJob]) -> None:
        self._fail("advance", [job.state for job in jobs])
        super().advance(jobs)

    def finish(self, jobs: Sequence[TinyJob]) -> list[Section]:
        sections = super().finish(jobs)
        self._fail("finish", [job.state for job in jobs])
        if any(job.state.seed == 13 for job in jobs) and self._is_due("numbers"):
            return [Section(section.latents * np.float16(np.nan), section.poses) for section in sections]
        return sections

    def decode(self, states: Sequence[TinyState], sections: Sequence[Section]) -> list[np.ndarray]:
        self._fail("decode", states)
        return super().decode(states, sections)

    def features(self, latents: np.ndarray) -> np.ndarray:
        if self._is_due("features"):
            raise MemoryError("features")
        return super().features(latents)

    def _fail(self, stage: str, states: Sequence[TinyState]) -> None:
        if any(state.seed == 13 and state.num_sections > 3 for state in states) and self._is_due(stage):
            raise MemoryError(stage)

    def _is_due(self, stage: str) -> bool:
        self.failures[stage] = self.failures.get(stage, 0) - 1
        return self.failures[stage] >= 0


@asynccontextmanager
async def running(model: TinyModel | None = None, folder: Path | None = None, **config: Any) -> AsyncIterator[Engine]:
    engine = Engine(
        model or TinyModel(),
        EngineConfig(diary=DiaryConfig(folder), **config),
        thumbnail=lambda frame: frame[0, 0].tobytes(),
    )
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop(drain=False)


async def player(engine: Engine, *, seed: int = 5) -> Handle:
    """One who plays and sees it, so that it goes on."""
    handle = await engine.open(seed=seed)
    handle.player_joined()
    handle.subscribe()
    return handle


async def read(mailbox: Mailbox, count: int) -> list[Produced]:
    async with asyncio.timeout(PATIENCE):
        return [await mailbox.get() for _ in range(count)]


async def watch(handle: Handle, count: int) -> list[Produced]:
    with handle.subscribe() as mailbox:
        return await read(mailbox, count)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the engine's thread sets no events for tests
            await asyncio.sleep(0.002)


def press(engine: Engine, handle: Handle, seq: int, *keys: str) -> None:
    handle.controls.receive(Input(seq=seq, ts=100.0 + seq, keys=list(keys)), engine.clock())


def replayed(folder: Path, handle: Handle) -> list[np.ndarray]:
    """The frames that the session's journal gives when it is played again by a model of its own."""
    return [frame for section in replay(TinyModel(), Reader(newest_world(folder, handle.id))) for frame in section]
