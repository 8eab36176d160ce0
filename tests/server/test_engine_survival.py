"""What the engine survives: a failing model, a restart, a drain, a full disk, being killed."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest

from server.diary import DiaryConfig
from server.engine import Engine, EngineConfig
from server.feed import SessionEndedError
from server.handle import Handle
from server.journal import Reader, UnknownWorldError, WorldInUseError
from server.link import BusyError
from server.world import replay
from server.worlds import newest_world

from .engines import FailingModel, SlowModel, player, press, read, replayed, running, until, watch
from .tiny_model import TinyModel


@pytest.mark.parametrize("decodes_aside", [False, True])
@pytest.mark.parametrize("stage", ["advance", "finish", "numbers", "decode"])
async def test_a_failure_of_the_model_costs_the_section_in_flight_only(
    stage: str, decodes_aside: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = FailingModel(decodes_aside=decodes_aside, **{stage: 1})
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


@pytest.mark.parametrize("decodes_aside", [False, True])
@pytest.mark.parametrize("stage", ["advance", "finish", "numbers", "decode"])
async def test_a_session_that_the_model_always_fails_at_ends_and_takes_no_other_along(
    stage: str, decodes_aside: bool
) -> None:
    async with running(FailingModel(decodes_aside=decodes_aside, **{stage: 1_000}), least_rate=0.0) as engine:
        good, bad = await player(engine, seed=5), await player(engine, seed=13)
        with bad.subscribe() as mailbox, pytest.raises(SessionEndedError, match="3 times in a row") as ended:
            await read(mailbox, 100)
        assert (ended.value.code, ended.value.retry_after) == ("session.failed", 0.0)
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
