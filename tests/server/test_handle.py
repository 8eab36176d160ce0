"""What the edges may ask of a session, asked of one that an engine plays."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from server.diary import DiaryConfig
from server.engine import Engine, EngineConfig
from server.feed import SessionEndedError
from server.handle import Handle
from server.link import BusyError
from server.protocol import Input
from server.worlds import list_worlds

from .engines import player, press, read, until, watch
from .tiny_model import TinyModel, TinyState


class PickyModel(TinyModel):
    """Refuses images that are too small."""

    def open(self, *, image: np.ndarray | None, prompt: str, seed: int) -> TinyState:
        if image is not None and image.shape[0] < 8:
            raise ValueError(f"expected an image of at least 8 rows, got {image.shape[0]}")
        return super().open(image=image, prompt=prompt, seed=seed)


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    made = Engine(PickyModel(), EngineConfig(diary=DiaryConfig(tmp_path)))
    made.start()
    yield made
    await made.stop(drain=False)


@pytest_asyncio.fixture
async def handle(engine: Engine) -> Handle:
    return await player(engine)


async def test_pausing_holds_the_picture_and_going_on_moves_it(engine: Engine, handle: Handle) -> None:
    [first] = await watch(handle, 1)
    handle.settings(paused=True)
    await until(lambda: handle.paused)
    with handle.subscribe() as mailbox:
        [held] = await read(mailbox, 1)
        made = engine.stats().num_sections
        assert held.index >= first.index
        await asyncio.sleep(0.2)  # ten frames
        assert engine.stats().num_sections - made <= 1  # the one in flight
        handle.settings(paused=False)
        frames = await read(mailbox, 3)
    assert [produced.index for produced in frames][-1] > held.index


async def test_recall_can_be_turned_off_and_on(engine: Engine, handle: Handle) -> None:
    press(engine, handle, 1, "ArrowRight")
    await until(lambda: handle.num_memories > 12)
    assert (await watch(handle, 3))[-1].recalled.ids
    handle.settings(recall=False)
    assert not (await watch(handle, 5))[-1].recalled.ids
    assert not handle.recalls
    handle.settings(recall=True)
    assert (await watch(handle, 5))[-1].recalled.ids


async def test_the_same_recall_is_the_same_object(handle: Handle) -> None:
    with handle.subscribe() as mailbox:
        frames = await read(mailbox, 10)
    for before, after in zip(frames, frames[1:], strict=False):
        assert (before.recalled is after.recalled) == (before.recalled.ids == after.recalled.ids)


async def test_a_reset_leads_to_the_world_of_the_seed(handle: Handle, tmp_path: Path) -> None:
    before = (await watch(handle, 5))[-1]
    await handle.reset(seed=77)
    *_, after = await watch(handle, 3)
    assert after.index > before.index
    assert [world.opened.seed for world in list_worlds(tmp_path) if world.name.startswith(handle.id)] == [5, 77]
    await handle.reset()
    *_, drawn = [world.opened.seed for world in list_worlds(tmp_path) if world.name.startswith(handle.id)]
    assert drawn not in (5, 77)


async def test_a_reset_to_an_image_shows_it(handle: Handle) -> None:
    handle.settings(paused=True)
    image = np.full((32, 32, 3), 200, np.uint8)
    await handle.reset(image=image, seed=1)
    handle.settings(paused=False)
    with handle.subscribe() as mailbox:
        frames = await read(mailbox, 3)
    assert (np.abs(frames[-1].frame.astype(int) - 200) <= 1).all()


async def test_a_reset_that_fails_leaves_the_old_world(handle: Handle) -> None:
    [before] = await watch(handle, 1)
    with pytest.raises(ValueError, match="expected an image of at least 8 rows, got 2"):
        await handle.reset(image=np.zeros((2, 2, 3), np.uint8))
    frames = await watch(handle, 3)
    assert frames[-1].index > before.index
    assert handle.ended is None


async def test_a_prompt_reaches_the_model_or_the_one_who_gave_it(handle: Handle) -> None:
    with pytest.raises(ValueError, match="expected a prompt, got an empty one"):
        await handle.set_prompt("")
    await handle.set_prompt("a garden")
    assert len(await watch(handle, 3)) == 3


async def test_a_new_player_starts_with_hands_free(engine: Engine, handle: Handle) -> None:
    press(engine, handle, 500, "ArrowRight")
    assert handle.has_player
    handle.player_left()
    assert not handle.has_player
    assert (await watch(handle, 3))[-1].applied_seq == -1
    handle.player_joined()
    press(engine, handle, 1, "ArrowLeft")
    assert (await watch(handle, 3))[-1].applied_seq == 1
    handle.player_joined()
    assert (await watch(handle, 3))[-1].applied_seq == -1


async def test_closing_ends_it_for_all(engine: Engine, handle: Handle) -> None:
    with handle.subscribe() as first, handle.subscribe() as second:
        await handle.close("session.kicked", "the host closed it")
        for mailbox in (first, second):
            with pytest.raises(SessionEndedError, match="the host closed it") as ended:
                await read(mailbox, 100)
            assert ended.value.code == "session.kicked"
    assert handle.ended is not None
    assert engine.find(handle.id) is None


async def test_figures(engine: Engine, handle: Handle) -> None:
    press(engine, handle, 1, "ArrowRight")
    with handle.subscribe() as mailbox:
        await read(mailbox, 10)
        stats = handle.stats()
    assert stats.num_readers == 2  # the fixture's player sees it too
    assert stats.num_memories == handle.num_memories > 1
    assert stats.recall_us > 0
    assert 0 < stats.generate_ms < 1_000
    assert stats.frame_rate <= engine.model.spec.frame_rate
    assert stats.journal_problem == ""


async def test_what_is_asked_of_an_ended_engine_is_refused(engine: Engine, handle: Handle) -> None:
    await engine.stop(drain=True)
    handle.player_left()
    handle.controls.receive(Input(seq=1), 0.0)
    with pytest.raises(BusyError, match="the server is leaving"):
        await handle.reset(seed=1)
