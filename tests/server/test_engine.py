"""The engine with its real thread, a real event loop and the tiny model."""

import asyncio
import gc
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from model.world_model import Section
from server.diary import DiaryConfig
from server.engine import Engine, EngineConfig
from server.feed import Mailbox, Produced, SessionEndedError
from server.handle import Handle
from server.journal import Reader, UnknownWorldError, WorldInUseError
from server.link import BusyError
from server.protocol import Input
from server.world import replay
from server.worlds import newest_world

from .tiny_model import TinyJob, TinyModel, TinyState

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

    def __init__(self, **failures: int) -> None:
        super().__init__()
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
    async with asyncio.timeout(20.0):
        return [await mailbox.get() for _ in range(count)]


async def watch(handle: Handle, count: int) -> list[Produced]:
    with handle.subscribe() as mailbox:
        return await read(mailbox, count)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20.0):
        while not condition():  # noqa: ASYNC110 - the engine's thread sets no events for tests
            await asyncio.sleep(0.002)


def press(engine: Engine, handle: Handle, seq: int, *keys: str) -> None:
    handle.controls.receive(Input(seq=seq, ts=100.0 + seq, keys=list(keys)), engine.clock())


def replayed(folder: Path, handle: Handle) -> list[np.ndarray]:
    """The frames that the session's journal gives when it is played again by a model of its own."""
    return [frame for section in replay(TinyModel(), Reader(newest_world(folder, handle.id))) for frame in section]


async def test_frames_come_in_order_and_no_faster_than_the_models_rate() -> None:
    async with running() as engine:
        handle = await player(engine)
        frames = await watch(handle, 3)
        begun = time.monotonic()
        frames += await watch(handle, 30)
        took = time.monotonic() - begun
    indices = [produced.index for produced in frames]
    assert indices[3:] == sorted(set(indices[3:]))
    assert (indices[-1] - indices[3]) / took <= 1.1 * engine.model.spec.frame_rate
    assert frames[0].frame.shape == (16, 32, 3)
    assert frames[0].frame.dtype == np.uint8


async def test_a_frame_answers_the_newest_input() -> None:
    async with running() as engine:
        handle = await player(engine)
        with handle.subscribe() as mailbox:
            [before] = await read(mailbox, 1)
            press(engine, handle, 7, "ArrowRight")
            *_, previous, last = await read(mailbox, 4)
    assert before.applied_seq == -1
    assert (last.applied_seq, last.client_ts) == (7, 107.0)
    assert 1000 * engine.clock() > last.t_applied >= last.t_recv > before.t_applied
    assert last.generate_ms > 0
    assert (last.frame != previous.frame).any()


async def test_sections_of_several_frames_are_shown_one_by_one() -> None:
    async with running(TinyModel(section_latents=2, frames_per_latent=2)) as engine:
        handle = await player(engine)
        with handle.subscribe() as mailbox:
            frames = await read(mailbox, 9)
    indices = [produced.index for produced in frames]
    assert indices == list(range(indices[0], indices[0] + 9))


async def test_frames_depend_on_seed_and_controls_alone(tmp_path: Path) -> None:
    """Sessions that share batches give the frames that each gives alone, bit for bit."""
    model = SlowModel(max_batch=3)
    async with running(model, tmp_path, least_rate=0.0) as engine:
        handles = [await player(engine, seed=seed) for seed in range(5)]
        seen: list[dict[int, np.ndarray]] = [{} for _ in handles]

        async def collect(handle: Handle, frames: dict[int, np.ndarray]) -> None:
            with handle.subscribe() as mailbox:
                async for produced in mailbox:
                    frames[produced.index] = produced.frame

        async with asyncio.TaskGroup() as tasks:
            for handle, frames in zip(handles, seen, strict=True):
                tasks.create_task(collect(handle, frames))
            for seq in range(40):
                await asyncio.sleep(0.012)
                for i, handle in enumerate(handles):
                    press(engine, handle, seq, KEYS[(seq // 8 + i) % 4])
            for handle in handles:
                await handle.close()
    assert max(model.batches) == 3
    for handle, frames in zip(handles, seen, strict=True):
        alone = replayed(tmp_path, handle)
        assert len(frames) > 5
        for index, frame in frames.items():
            np.testing.assert_array_equal(frame, alone[index])


async def test_under_overload_all_sessions_are_slowed_alike() -> None:
    async with running(SlowModel(max_batch=2), least_rate=0.0) as engine:
        handles = [await player(engine, seed=seed) for seed in range(6)]
        await asyncio.sleep(0.3)
        before = [(await watch(handle, 1))[0].index for handle in handles]
        await asyncio.sleep(1.0)
        after = [(await watch(handle, 1))[0].index for handle in handles]
    made = np.subtract(after, before)
    assert made.min() >= 5
    assert made.max() - made.min() <= 0.2 * made.max() + 6


async def test_a_session_that_nobody_plays_or_watches_rests() -> None:
    async with running() as engine:
        handle = await engine.open(seed=1)
        await asyncio.sleep(0.1)
        assert engine.stats().num_sections == 0
        await watch(handle, 3)
        made = engine.stats().num_sections
        handle.player_joined()  # it connects, and sees nothing yet
        await asyncio.sleep(0.1)
        assert made <= engine.stats().num_sections <= made + 2
        made = engine.stats().num_sections
        await watch(handle, 3)
        assert engine.stats().num_sections > made


async def test_a_session_outlives_its_player_by_the_grace_only() -> None:
    async with running(player_grace=1.0) as engine:
        handle = await player(engine)
        await asyncio.sleep(1.1)
        assert engine.find(handle.id) is handle
        handle.player_left()
        await asyncio.sleep(0.1)
        assert engine.find(handle.id) is handle
        with handle.subscribe() as mailbox, pytest.raises(SessionEndedError) as ended:
            await read(mailbox, 1_000)
    assert ended.value.code == "session.abandoned"
    assert engine.find(handle.id) is None
    assert engine.handles == []


async def test_a_session_that_is_over_holds_nothing_and_refuses_by_name() -> None:
    async with running() as engine:
        handle = await player(engine)
        press(engine, handle, 1, "ArrowRight", "KeyW")
        await until(lambda: handle.num_memories > 3)
        state = weakref.ref(handle._line.world.session._bank)
        gc.disable()  # garbage waits for minutes on a busy server
        try:
            await handle.close()
            await until(lambda: state() is None)
        finally:
            gc.enable()
        assert handle.stats().num_memories == handle.num_memories == 0
        for asked in (handle.reset(seed=1), handle.set_prompt("red")):
            with pytest.raises(BusyError) as refusal:
                await asked
            assert (refusal.value.code, refusal.value.retry_after) == ("session.closed", 0.0)


async def test_there_is_room_for_so_many_and_then_one_is_told_when_to_come_back() -> None:
    async with running(max_sessions=2, least_rate=0.0, player_grace=20.0) as engine:
        first, second = await player(engine), await player(engine)
        with pytest.raises(BusyError, match="expected room for one more session, got 2") as refusal:
            await engine.open()
        assert (refusal.value.code, refusal.value.retry_after) == ("server.busy", 30.0)
        second.player_left()
        with pytest.raises(BusyError) as refusal:
            await engine.open()
        assert 15.0 < refusal.value.retry_after <= 20.0
        assert engine.stats().num_refused == 2
        await first.close()
        assert (await engine.open()).id != second.id


async def test_no_more_sessions_than_the_model_can_play_at_speed() -> None:
    """A section of 20 ms leaves room for 2.5 sessions at 50 per second: two keep 0.8 of the rate, three would not."""
    async with running(SlowModel(step_seconds=0.01, max_batch=1), least_rate=0.9) as engine:
        first = await player(engine)
        await until(lambda: engine.stats().num_sections > 30)
        assert 0.019 < engine.stats().section_seconds < 0.5
        with pytest.raises(BusyError):
            await engine.open()
        first.settings(paused=True)
        await until(lambda: engine.stats().attended == 0)
        await engine.open()


async def test_a_model_slower_than_its_frame_rate_is_shared_by_halves() -> None:
    async with running(SlowModel(step_seconds=0.05, max_batch=2)) as engine:
        await player(engine)
        await until(lambda: engine.stats().num_sections > 3)
        await player(engine)
        await until(lambda: engine.stats().batch_size == 2)
        with pytest.raises(BusyError, match="got 2 sessions, 2 of them at play"):
            await engine.open()


@pytest.mark.parametrize("stage", ["advance", "finish", "numbers", "decode"])
async def test_a_failure_of_the_model_costs_the_section_in_flight_only(
    stage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = FailingModel(**{stage: 1})
    async with running(model, tmp_path) as engine:
        handle = await player(engine, seed=13)
        press(engine, handle, 1, "ArrowRight")
        frames = {}
        with handle.subscribe() as mailbox:
            while engine.stats().num_sections < 12:
                [produced] = await read(mailbox, 1)
                frames[produced.index] = produced.frame
        await handle.close()
    assert engine.stats().num_failures == 1
    assert "the model failed at 1 sessions" in caplog.text
    alone = replayed(tmp_path, handle)
    for index, frame in frames.items():
        np.testing.assert_array_equal(frame, alone[index])


async def test_a_memory_that_could_not_be_made_is_made_up_for(tmp_path: Path) -> None:
    model = FailingModel()
    async with running(model, tmp_path) as engine:
        handle = await player(engine)
        await watch(handle, 3)
        model.failures["features"] = 1
        await until(lambda: engine.stats().num_failures == 1)
        await watch(handle, 5)
        await handle.close()
    assert len(replayed(tmp_path, handle)) > 5


@pytest.mark.parametrize("stage", ["advance", "finish", "numbers", "decode"])
async def test_a_session_that_the_model_always_fails_at_ends_and_takes_no_other_along(stage: str) -> None:
    async with running(FailingModel(**{stage: 1_000}), least_rate=0.0) as engine:
        good, bad = await player(engine, seed=5), await player(engine, seed=13)
        with bad.subscribe() as mailbox, pytest.raises(SessionEndedError, match="3 times in a row") as ended:
            await read(mailbox, 100)
        assert ended.value.code == "model.failed"
        assert len(await watch(good, 5)) == 5
        assert engine.is_alive
        assert await engine.open(seed=6)


async def test_a_session_goes_on_from_its_journal_where_it_was(tmp_path: Path) -> None:
    async with running(None, tmp_path) as engine:
        handle = await player(engine)
        press(engine, handle, 1, "ArrowRight")
        await watch(handle, 20)
        assert await engine.resume(handle.id) is handle
        await engine.stop(drain=True)
    before = replayed(tmp_path, handle)
    async with running(None, tmp_path) as engine:
        again = await engine.resume(handle.id)
        assert again.id == handle.id
        again.player_joined()
        press(engine, again, 0, "ArrowLeft")
        frames = await watch(again, 20)
        thumbnails = [picture for produced in frames for picture in produced.recalled.thumbnails]
        await again.close()
    assert frames[0].index == len(before)
    assert thumbnails
    assert all(thumbnails)
    after = replayed(tmp_path, again)
    np.testing.assert_array_equal(after[: len(before)], before)
    for produced in frames:
        np.testing.assert_array_equal(produced.frame, after[produced.index])


async def test_a_session_is_brought_back_once_even_if_two_ask(tmp_path: Path) -> None:
    async with running(None, tmp_path) as engine:
        handle = await player(engine)
        await until(lambda: engine.stats().num_sections > 80)
        await engine.stop(drain=True)
    async with running(None, tmp_path) as engine:
        answers = await asyncio.gather(*(engine.resume(handle.id) for _ in range(3)), return_exceptions=True)
        found = [answer for answer in answers if isinstance(answer, Handle)]
        assert len(found) >= 1
        assert all(isinstance(answer, Handle | WorldInUseError) for answer in answers)
        assert await engine.resume(handle.id) is found[0]


async def test_sessions_that_are_not_there_cannot_be_resumed(tmp_path: Path) -> None:
    async with running() as engine:
        with pytest.raises(UnknownWorldError, match="none are written down"):
            await engine.resume("somebody")
    async with running(None, tmp_path) as engine:
        with pytest.raises(UnknownWorldError, match="expected a session with a saved world"):
            await engine.resume("somebody")
        with pytest.raises(UnknownWorldError, match="expected a session's id"):
            await engine.resume("../somebody")


async def test_a_drain_finishes_sections_tells_why_and_lets_nobody_in(tmp_path: Path) -> None:
    model = SlowModel(step_seconds=0.05)
    async with running(model, tmp_path) as engine:
        handle = await player(engine)
        mailbox = handle.subscribe()
        await until(lambda: len(model.batches) % 2 == 1)
        await engine.stop(drain=True)
        assert len(model.batches) % 2 == 0
        with pytest.raises(SessionEndedError) as ended:
            await read(mailbox, 100)
        assert ended.value.code == "server.leaving"
        assert not engine.is_alive
        with pytest.raises(BusyError) as refusal:
            await engine.open()
        assert refusal.value.code == "server.leaving"
    assert replayed(tmp_path, handle)


async def test_where_nothing_can_be_written_the_game_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    async with running(None, tmp_path / "file") as engine:
        handle = await player(engine)
        assert len(await watch(handle, 5)) == 5
        assert "File exists" in handle.stats().journal_problem
    assert "no longer written down" in caplog.text


async def test_a_journal_at_its_limit_stops_and_the_game_goes_on(tmp_path: Path) -> None:
    engine = Engine(TinyModel(), EngineConfig(diary=DiaryConfig(tmp_path, limit=3_000)))
    engine.start()
    try:
        handle = await player(engine)
        await until(lambda: "expected at most 3000 bytes" in handle.stats().journal_problem)
        assert len(await watch(handle, 5)) == 5
    finally:
        await engine.stop(drain=False)
    assert len(replayed(tmp_path, handle)) > 3


async def test_stages_are_timed() -> None:
    seen: dict[str, float] = {}
    engine = Engine(TinyModel(), EngineConfig(), observe=seen.__setitem__)
    engine.start()
    await watch(await player(engine), 3)
    await engine.stop(drain=False)
    assert list(seen) == ["recall", "begin", "step", "finish", "decode", "show", "remember"]
    assert all(seconds > 0 for seconds in seen.values())


SERVE = """
import asyncio, sys
from pathlib import Path
from server.diary import DiaryConfig
from server.engine import Engine, EngineConfig
from server.protocol import Input
from tests.server.tiny_model import TinyModel

async def main(folder: str, session: str = "") -> None:
    engine = Engine(TinyModel(), EngineConfig(diary=DiaryConfig(Path(folder))))
    engine.start()
    handle = await (engine.resume(session) if session else engine.open(seed=3))
    handle.player_joined()
    handle.controls.receive(Input(seq=1, keys=["ArrowRight", "KeyW"]), engine.clock())
    async for produced in handle.subscribe():
        print(handle.id, produced.index, produced.frame.tobytes().hex(), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def serve_and_kill(folder: Path, session: str, *, num_frames: int) -> list[tuple[str, int, str]]:
    """Session, index and pixels of the frames that a server's player saw until it was killed."""
    command = [sys.executable, "-c", SERVE, str(folder), *([session] if session else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(num_frames)]
        time.sleep(Random(num_frames).uniform(0.0, 0.05))  # at any moment of a section
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    seen = [line.split() for line in lines if line.endswith("\n")]
    return [(session, int(index), pixels) for session, index, pixels in seen]


@pytest.mark.parametrize("num_kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_a_server_killed_again_and_again_loses_nothing_that_was_seen(tmp_path: Path, num_kills: int) -> None:
    session, seen = "", {}
    for kill in range(num_kills):
        frames = serve_and_kill(tmp_path, session, num_frames=3 + 7 * kill % 23)
        first, last = frames[0][1], max(seen, default=-1)
        assert last + 1 <= first <= last + 3  # what was written and not seen is at most what the pacer held
        session = frames[0][0]
        seen |= {index: pixels for _, index, pixels in frames}
    reader = Reader(newest_world(tmp_path, session))
    played = [frame for section in replay(TinyModel(), reader) for frame in section]
    assert len(seen) > 5 * num_kills
    for index, pixels in seen.items():
        assert played[index].tobytes().hex() == pixels
