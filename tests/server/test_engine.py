"""The engine with its real thread, a real event loop and the tiny model: who plays, how fast, and how many."""

import asyncio
import gc
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from server.engine import Engine, EngineConfig
from server.feed import Feed, Mailbox, Produced, SessionEndedError
from server.handle import Handle
from server.link import BusyError

from .engines import KEYS, SlowModel, player, press, read, replayed, running, until, watch
from .tiny_model import TinyModel


class Everything(Mailbox):
    """A reader that counts each frame as it is shown: on a busy machine one who waits for them loses some."""

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed)
        self.shown: list[int] = []

    def put(self, produced: Produced | None) -> None:
        super().put(produced)
        if produced is not None:
            self.shown.append(produced.index)


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
        with Everything(handle._line.link.feed) as mailbox:
            mailbox.open()
            await until(lambda: len(mailbox.shown) >= 9)
    assert mailbox.shown == list(range(mailbox.shown[0], mailbox.shown[0] + len(mailbox.shown)))


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


async def test_stages_are_timed() -> None:
    seen: dict[str, float] = {}
    engine = Engine(TinyModel(), EngineConfig(), observe=seen.__setitem__)
    engine.start()
    await watch(await player(engine), 3)
    await engine.stop(drain=False)
    assert list(seen) == ["recall", "begin", "step", "finish", "decode", "show", "remember"]
    assert all(seconds > 0 for seconds in seen.values())
