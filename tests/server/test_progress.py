"""What is told of sections that take long: by the engine, over the broadcast, to all who watch."""

import asyncio
import time
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from server.progress import PREVIEW_SIZE, TELL_EVERY, DraftingModel, Progress, message_of
from server.protocol import Frame, Hello
from server.protocol import Progress as Told
from server.serve import ServeConfig, build
from tests.server.running import served, until
from tests.server.test_broadcast import on_air
from tests.server.tiny_model import TinyJob, TinyModel
from tests.server.ws_client import WsClient


class Drafting(TinyModel):
    """Slow enough for its sections to be told of; a draft is as light as the steps that are done."""

    def __init__(self, *, step_seconds: float) -> None:
        super().__init__()
        self.step_seconds = step_seconds

    def advance(self, jobs: Sequence[TinyJob]) -> None:
        time.sleep(self.step_seconds)
        super().advance(jobs)

    def draft(self, job: TinyJob) -> np.ndarray:
        return np.full((16, 32, 3), 100 * (self.spec.num_steps - job.steps_left), np.uint8)


def test_only_models_that_draft_are_asked() -> None:
    assert isinstance(Drafting(step_seconds=0), DraftingModel)
    assert not isinstance(TinyModel(), DraftingModel)


@pytest.mark.parametrize("shape", [(480, 832), (16, 32)])
def test_drafts_are_told_small(shape: tuple[int, int]) -> None:
    frame = np.full((*shape, 3), 90, np.uint8)
    told = message_of(Progress(36, 4, 25, frame))
    preview = np.asarray(Image.open(BytesIO(told.preview)))
    assert (told.frame, told.step, told.num_steps) == (36, 4, 25)
    assert max(preview.shape) == min(PREVIEW_SIZE, max(shape))
    assert abs(preview.mean() - 90) < 2
    assert message_of(Progress(36, 4, 25, None)).preview == b""


async def test_a_slow_section_tells_its_steps_before_its_frames() -> None:
    model = Drafting(step_seconds=1.5 * TELL_EVERY)
    async with (
        served(lambda ready: build(model, ServeConfig(port=0), ready=ready)) as server,
        WsClient(server.host, Hello(codec="raw", seed=3)) as client,
    ):
        told = await client.next(Told)
        assert (told.frame, told.step, told.num_steps) == (0, 1, 2)
        assert np.asarray(Image.open(BytesIO(told.preview))).mean() == pytest.approx(100, abs=2)
        assert (await client.next(Frame)).receipt.frame == 0


async def test_what_was_told_is_not_told_again() -> None:
    async with on_air() as (broadcast, _):
        broadcast.handle.settings(paused=True)
        await until(lambda: broadcast.handle.paused and broadcast.handle._line.job is None)
        watcher = broadcast.join(role="viewer", codec="raw")
        for step in (4, 5):
            broadcast.handle._line.progress = Progress(36, step, 25, None)
            for _ in range(2):
                await broadcast._tell_progress()
        told = [message.step for message in watcher.messages._items if isinstance(message, Told)]
    assert told == [4, 5]


async def test_quick_sections_are_not_told_of() -> None:
    async with (
        served(lambda ready: build(Drafting(step_seconds=0), ServeConfig(port=0), ready=ready)) as server,
        WsClient(server.host, Hello(codec="raw", seed=3)) as client,
    ):
        until = asyncio.get_running_loop().time() + 1.5 * TELL_EVERY
        while asyncio.get_running_loop().time() < until:
            assert not isinstance(await client.receive(), Told)
            await client.frames(1)
