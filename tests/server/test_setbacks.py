"""A model that fails in whole servers: clients are told, go on, and come back by their tokens if it was too often."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from client_demo.client import Client, ServerError
from server.diary import DiaryConfig
from server.engine import EngineConfig
from server.line import COME_BACK_AFTER
from server.protocol import Error, Frame, Hello
from server.serve import ServeConfig, build
from tests.server.engines import FailingModel, player, running, until, watch
from tests.server.running import served
from tests.server.tiny_model import TinyJob, TinyModel
from tests.server.ws_client import WsClient

HELLO = Hello(codec="raw", seed=13)  # which the model fails at


def serving(model: TinyModel, folder: Path | None = None):
    engine = EngineConfig(least_rate=0.0, diary=DiaryConfig(folder))
    return served(lambda ready: build(model, ServeConfig(port=0, engine=engine), ready=ready))


@pytest.mark.parametrize("stage", ["advance", "finish", "decode"])
async def test_whoever_watches_is_told_at_once_and_the_world_goes_on(stage: str) -> None:
    model = FailingModel()
    async with serving(model) as server, WsClient(server.host, HELLO) as one:
        async with WsClient(server.host, Hello(session=one.welcome.session, role="viewer", codec="raw")) as viewer:
            before = (await one.frames(6))[-1].receipt.frame
            model.failures[stage] = 1
            for client in (one, viewer):
                told = await client.next(Error)
                assert (told.code, told.retry_after) == ("model.failed", 0.0)
                assert told.message == (
                    f"the model failed, and the world goes on from its last finished section: MemoryError: {stage}"
                )
                after = (await client.frames(5))[-1].receipt.frame
                assert after > before
        assert server.house.engine.stats().num_failures == 1


async def test_after_too_many_failures_it_ends_and_comes_back_by_its_token(tmp_path: Path) -> None:
    model = FailingModel()
    async with serving(model, tmp_path) as server:
        async with WsClient(server.host, HELLO) as client:
            await client.frames(6)
            model.failures["advance"] = 3
            codes = []
            while not codes or codes[-1].code == "model.failed":
                codes.append(await client.next(Error))
            error, closed = await client.end()
        assert error is None and closed == 1013  # try again later
        assert [told.code for told in codes] == ["model.failed", "model.failed", "session.failed"]
        assert codes[-1].retry_after == COME_BACK_AFTER
        assert codes[-1].message == "the model failed 3 times in a row: MemoryError: advance"
        assert server.house.lobby.is_ready
        async with WsClient(server.host, Hello(codec="raw", resume=client.welcome.resume)) as again:
            assert again.welcome.session == client.welcome.session
            first = (await again.next(Frame)).receipt.frame
            assert first > 4
            assert (await again.frames(3))[-1].receipt.frame > first


async def test_what_is_not_written_down_does_not_come_back() -> None:
    model = FailingModel(advance=1_000)
    async with serving(model) as server, WsClient(server.host, HELLO) as client:
        error, closed = await client.end()
        assert error is not None
        assert (error.code, error.retry_after, closed) == ("session.failed", 0.0, 1008)


async def test_the_python_client_notes_it_and_goes_on(tmp_path: Path) -> None:
    model = FailingModel()
    async with serving(model, tmp_path) as server:
        client = Client(f"ws://{server.host}/ws", codec="raw", seed=13)
        async with client as world:
            before = [await world.frame() for _ in range(6)][-1].receipt.frame
            model.failures["advance"] = 1
            while not world.setback:
                frame = await world.frame()
            assert world.setback["code"] == "model.failed"
            frame = await world.frame()
            assert frame.receipt.frame > before
            model.failures["advance"] = 3
            with pytest.raises(ServerError, match="session.failed") as ended:
                while True:
                    frame = await world.frame()
            assert ended.value.retry_after == COME_BACK_AFTER
        async with client as world:  # it still has its token
            assert (await world.frame()).receipt.frame > before


class NarrowModel(TinyModel):
    """Has memory for two sessions at once."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__(max_batch=4)
        self.error = error
        self.batches: list[int] = []

    def advance(self, jobs: Sequence[TinyJob]) -> None:
        self.batches.append(len(jobs))
        if len(jobs) > 2:
            raise self.error("out of memory")
        super().advance(jobs)


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
async def test_out_of_memory_makes_batches_smaller_and_each_session_goes_alone_first(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    model = NarrowModel(error)
    async with running(model, least_rate=0.0) as engine:
        handles = [await player(engine, seed=seed) for seed in range(4)]
        await until(lambda: engine.stats().num_failures > 0)
        failed = next(i for i, size in enumerate(model.batches) if size > 2)
        struck = model.batches[failed]
        made = engine.stats().num_sections
        await until(lambda: engine.stats().num_sections > made + 30)
        assert [len(await watch(handle, 3)) for handle in handles] == [3] * 4
    assert engine.stats().num_failures == struck  # once
    after = model.batches[failed + 1 :]
    assert after[:2] == [1, 1]  # the two steps of a section alone
    assert max(after) <= struck // 2
    assert f"at most {struck // 2} sessions at once" in caplog.text


async def test_only_those_of_the_step_are_struck() -> None:
    """A session that waits for its turn has lost nothing."""
    model = FailingModel(advance=2)
    async with running(model, least_rate=0.0) as engine:
        bad, good = await player(engine, seed=13), await player(engine, seed=5)
        troubles: dict[str, list[str]] = {bad.id: [], good.id: []}
        for handle in (bad, good):
            handle.mailbox(set_back=troubles[handle.id].append).open()
        await until(lambda: len(troubles[bad.id]) == 2)
        assert len(await watch(good, 5)) == len(await watch(bad, 5)) == 5
        assert troubles[bad.id] == [troubles[bad.id][0]] * 2
        assert len(troubles[good.id]) <= 1  # at most the first time: then the bad one goes alone
    assert engine.stats().num_failures == sum(map(len, troubles.values()))
