"""Decoding aside: it overlaps the next sections, changes no frame, loses nothing, and ends when it is to."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from model.helios.course import StraightPlan
from model.world_model import Section, WorldModel
from server.diary import DiaryConfig
from server.engine import Engine, EngineConfig
from server.feed import Produced, SessionEndedError
from server.handle import Handle
from server.journal import Advanced, Reader
from server.link import BusyError
from server.world import replay
from server.worlds import newest_world
from tests.model.helios import tiny as helios
from tests.model.hunyuan import tiny as hunyuan
from tests.model.wan import tiny as wan

from .engines import KEYS, player, press, read, replayed, running, until, watch
from .tiny_model import TinyJob, TinyModel, TinyState

PATIENCE = 10.0  # seconds


class DarkModel(TinyModel):
    """Decodes only while `light` is set; notes who decodes, and what was advanced meanwhile."""

    def __init__(self, **sizes: int) -> None:
        super().__init__(decodes_aside=True, **sizes)
        self.light, self.waits = threading.Event(), threading.Event()
        self.light.set()
        self.threads: set[str] = set()
        self.steps: Counter[int] = Counter()  # while it was dark, by seed
        self.num_sections: Counter[int] = Counter()  # decoded, by seed

    def advance(self, jobs: Sequence[TinyJob]) -> None:
        super().advance(jobs)
        if self.waits.is_set():
            self.steps.update(job.state.seed for job in jobs)

    def decode(self, states: Sequence[TinyState], sections: Sequence[Section]) -> list[np.ndarray]:
        self.threads.add(threading.current_thread().name)
        if not self.light.is_set():
            self.waits.set()
            assert self.light.wait(PATIENCE), "expected light"
            self.waits.clear()
        self.num_sections.update(state.seed for state in states)
        return super().decode(states, sections)


def num_written(folder: Path, handle: Handle) -> int:
    records = Reader(newest_world(folder, handle.id))
    return sum(isinstance(record, Advanced) for record in records)


async def darken(model: DarkModel) -> None:
    model.light.clear()
    await until(model.waits.is_set)


async def test_the_next_sections_are_sampled_while_one_is_decoded(tmp_path: Path) -> None:
    """One of them a session's own: it is begun, denoised, and waits at its end."""
    model = DarkModel(max_batch=2)
    async with running(model, tmp_path, least_rate=0.0) as engine:
        one, other = await player(engine, seed=1), await player(engine, seed=2)
        await until(lambda: min(model.num_sections[1], model.num_sections[2]) > 3)
        await darken(model)
        decoded = dict(model.num_sections)
        await until(lambda: min(model.steps[1], model.steps[2]) >= 2)  # all the steps of a section
        await asyncio.sleep(0.1)
        assert dict(model.num_sections) == decoded
        assert max(model.steps.values()) <= 2 * 2  # what was in flight, and at most one section more
        for handle in (one, other):  # what waits to be decoded is written down, and no more than that
            assert decoded[handle_seed(handle)] < num_written(tmp_path, handle) <= decoded[handle_seed(handle)] + 1
        model.light.set()
        await watch(one, 5)
    assert model.threads == {"decoding"}
    assert engine.stats().num_failures == 0


def handle_seed(handle: Handle) -> int:
    return handle._line.world.opening.seed


class DullModel(TinyModel):
    """Steps at once, and takes 20 ms for the frames of a section."""

    def __init__(self) -> None:
        super().__init__(decodes_aside=True, max_batch=1)

    def decode(self, states: Sequence[TinyState], sections: Sequence[Section]) -> list[np.ndarray]:
        time.sleep(0.02)
        return super().decode(states, sections)


async def test_decoding_that_takes_longer_than_the_steps_bounds_the_sessions_too() -> None:
    async with running(DullModel(), least_rate=0.9) as engine:
        await player(engine)
        await until(lambda: engine.stats().num_sections > 30)
        assert engine.stats().section_seconds < 0.02
        with pytest.raises(BusyError):
            await engine.open()


async def test_frames_come_in_order_and_are_those_of_a_serial_engine(tmp_path: Path) -> None:
    model = DarkModel(max_batch=2)
    async with running(model, tmp_path, least_rate=0.0) as engine:
        handles = [await player(engine, seed=seed) for seed in range(3)]
        seen: list[list[Produced]] = [[] for _ in handles]

        async def collect(handle: Handle, frames: list[Produced]) -> None:
            with handle.subscribe() as mailbox:
                async for produced in mailbox:
                    frames.append(produced)

        async with asyncio.TaskGroup() as tasks:
            for handle, frames in zip(handles, seen, strict=True):
                tasks.create_task(collect(handle, frames))
            for seq in range(3000):
                await asyncio.sleep(0.012)
                if all(len(frames) > 5 for frames in seen) and seq >= 30:
                    break
                for i, handle in enumerate(handles):
                    press(engine, handle, seq, KEYS[(seq // 6 + i) % 4])
            for handle in handles:
                await handle.close()
    assert any(produced.recalled.ids for frames in seen for produced in frames)
    for handle, frames in zip(handles, seen, strict=True):
        indices = [produced.index for produced in frames]
        assert len(indices) > 5 and indices == sorted(set(indices))
        alone = replayed(tmp_path, handle)
        for produced in frames:
            np.testing.assert_array_equal(produced.frame, alone[produced.index])


async def test_a_drain_waits_for_what_is_decoded_and_an_end_does_not(tmp_path: Path) -> None:
    for drain in (True, False):
        model = DarkModel()
        async with running(model, tmp_path) as engine:
            handle = await player(engine, seed=1)
            await watch(handle, 3)
            await darken(model)
            mailbox = handle.subscribe()
            stopping = asyncio.ensure_future(engine.stop(drain=drain))
            await until(lambda: not engine.is_alive)
            await asyncio.sleep(0.05)
            decoded = model.num_sections[1]
            assert (handle.ended is None) == drain and not stopping.done()
            model.light.set()
            await stopping
            with pytest.raises(SessionEndedError, match="leaving"):
                await read(mailbox, 100)
        if drain:  # all that was sampled has been shown
            assert model.num_sections[1] == num_written(tmp_path, handle) > decoded
        assert len(replayed(tmp_path, handle)) == num_written(tmp_path, handle)
        assert not [thread for thread in threading.enumerate() if thread.name in ("decoding", "engine")]


async def test_a_world_may_be_left_and_a_session_end_while_it_is_decoded(tmp_path: Path) -> None:
    model = DarkModel()
    async with running(model, tmp_path) as engine:
        handle = await player(engine, seed=1)
        await watch(handle, 3)
        await darken(model)
        await handle.reset(seed=2)
        first = handle._line.world.first_frame
        with handle.subscribe() as mailbox:
            await until(lambda: model.steps[2] >= 2)  # the new world is sampled, and waits for its turn to be decoded
            model.light.set()
            frames = [produced for produced in await read(mailbox, 6) if produced.index >= first]
        alone = replayed(tmp_path, handle)
        for produced in frames:
            np.testing.assert_array_equal(produced.frame, alone[produced.index - first])
        await darken(model)
        await handle.close()
        await until(lambda: engine.handles == [])
        model.light.set()
        assert len(await watch(await player(engine, seed=3), 3)) == 3
    assert engine.stats().num_failures == 0


async def test_who_leaves_meanwhile_misses_nothing() -> None:
    model = DarkModel()
    async with running(model) as engine:
        handle = await engine.open(seed=1)
        handle.player_joined()
        with handle.subscribe() as mailbox:
            await read(mailbox, 5)
            await darken(model)
            await until(lambda: model.steps[1] >= 2)
        model.light.set()
        feed = handle._line.link.feed
        await until(lambda: len(feed._waiting) >= 2)  # what was decoded then, and what had been sampled
        assert feed.newest is not None
        waiting = [produced.index for _, produced in feed._waiting]
        assert waiting == [feed.newest.index + 1 + i for i in range(len(waiting))]
        assert len(await watch(handle, 5)) == 5


class TightModel(DarkModel):
    """Runs out of memory when it decodes while it samples."""

    def decode(self, states: Sequence[TinyState], sections: Sequence[Section]) -> list[np.ndarray]:
        if threading.current_thread().name == "decoding" and self.num_sections.total() > 5:
            raise MemoryError("both at once")
        return super().decode(states, sections)


async def test_where_memory_runs_out_nothing_is_decoded_aside_any_more(caplog: pytest.LogCaptureFixture) -> None:
    async with running(TightModel(), least_rate=0.0) as engine:
        one, other = await player(engine, seed=1), await player(engine, seed=2)
        await until(lambda: engine.stats().num_failures > 0)
        for handle in (one, other):
            await watch(handle, 8)  # by then each has failed, if it does
        failures = engine.stats().num_failures
        assert len(await watch(one, 8)) == len(await watch(other, 8)) == 8
        assert engine.stats().num_failures == failures <= 2
        assert engine.model.threads == {"decoding", "engine"}
    assert "nothing is decoded aside from now on" in caplog.text
    assert "sessions at once" not in caplog.text  # the batch was not at fault


LARGE: dict[str, Callable[[bool], WorldModel]] = {
    "hunyuan": lambda aside: hunyuan.framepack_of(hunyuan.parts(), decodes_aside=aside),
    "wan": lambda aside: wan.wan_of(wan.parts(), decodes_aside=aside),
    "helios": lambda aside: helios.helios_of(helios.parts(), StraightPlan(helios.scheduler(), 2), decodes_aside=aside),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, about diffusers' scheduler
@pytest.mark.parametrize("name", LARGE)
async def test_large_models_show_the_same_frames_decoded_aside_or_not(name: str, tmp_path: Path) -> None:
    """Two sessions with drafts, so that threads meet in the decoder; a new start is encoded meanwhile too."""
    model = LARGE[name](True)
    engine = Engine(model, EngineConfig(least_rate=0.0, diary=DiaryConfig(tmp_path)))
    engine.start()
    try:
        handles = [await engine.open(seed=seed, prompt="a cat walks") for seed in (1, 2)]
        seen: dict[str, dict[int, np.ndarray]] = {handle.id: {} for handle in handles}

        async def collect(handle: Handle) -> None:
            handle.player_joined()
            with handle.subscribe() as mailbox:
                async for produced in mailbox:
                    seen[handle.id][produced.index] = produced.frame

        async with asyncio.TaskGroup() as tasks:
            for handle in handles:
                tasks.create_task(collect(handle))
            await until(lambda: engine.stats().num_sections >= 4)
            await engine.open(seed=3, image=wan.image())
            await until(lambda: engine.stats().num_sections >= 7)
            await engine.stop(drain=True)
    finally:
        await engine.stop(drain=False)
    assert engine.stats().num_failures == 0
    serial = LARGE[name](False)
    for handle in handles:
        alone = np.concatenate(list(replay(serial, Reader(newest_world(tmp_path, handle.id)), tolerance=1e-2)))
        assert len(seen[handle.id]) > 2
        for index, frame in seen[handle.id].items():
            assert np.abs(frame.astype(int) - alone[index]).max() <= 2
