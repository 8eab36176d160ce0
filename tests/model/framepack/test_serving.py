"""FramePack behind the whole server and in the queue of clips, on a tiny network: what players and makers get."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.clips.queue import submit
from model.clips.request import ClipRequest, Given
from model.hunyuan.framepack import F1, I2V
from server.clips import Studio
from server.diary import DiaryConfig
from server.engine import EngineConfig
from server.protocol import Error, Frame, Hello, Input, Prompt, Reset
from server.serve import ServeConfig, build
from tests.model.clips.videos import read_video
from tests.model.hunyuan import tiny
from tests.server.running import served
from tests.server.ws_client import WsClient

SECTION_FRAMES = 12
QUICK = replace(F1, frame_rate=240.0)


@pytest.fixture(scope="module")
def parts():
    return tiny.parts()


def serving(model, folder=None):
    # a server on a loaded machine must not turn the second player away for the model's speed
    engine = EngineConfig(least_rate=0.001, diary=DiaryConfig(folder))
    return served(lambda ready: build(model, ServeConfig(port=0, engine=engine), ready=ready))


def pixels(frame: Frame) -> np.ndarray:
    return np.frombuffer(frame.data, np.uint8).reshape(frame.height, frame.width, 3).astype(float)


def png() -> bytes:
    buffer = BytesIO()
    Image.fromarray(tiny.image((96, 160), seed=4)).save(buffer, "PNG")
    return buffer.getvalue()


async def wait_for(client, *, seq):
    """Frames until one answers input `seq`; all have the model's size."""
    while True:
        frame = await client.next(Frame)
        assert (frame.height, frame.width) == (48, 80)
        if frame.receipt.applied_seq >= seq:
            return frame


async def test_a_player_steers_prompts_and_starts_from_an_image(parts):
    async with serving(tiny.framepack_of(parts, weights=QUICK)) as server:
        hello = Hello(codec="raw", seed=3, prompt="a cat walks")
        async with WsClient(server.host, hello) as client:
            welcome = client.welcome
            assert (welcome.model, welcome.width, welcome.height) == ("framepack-f1", 80, 48)
            assert [axis.name for axis in welcome.axes] == ["move", "strafe", "turn", "look"]
            assert welcome.accepts_prompt and welcome.accepts_image
            shown = await client.frames(SECTION_FRAMES + 2)
            assert shown[-1].receipt.frame > SECTION_FRAMES
            assert pixels(shown[0]).std() > 0
            await client.send(Input(seq=1, keys=["KeyW"]))
            answered = await wait_for(client, seq=1)
            assert answered.receipt.frame % SECTION_FRAMES == 0  # a section answers as a whole
            await client.send(Prompt(text="rain falls slowly"))
            await client.send(Reset(image=png(), prompt="a garden"))
            before = (await client.next(Frame)).receipt.frame
            await client.frames(SECTION_FRAMES)
            assert (await client.next(Frame)).receipt.frame > before


async def test_two_players_share_the_model(parts):
    model = tiny.framepack_of(parts, weights=QUICK)
    async with serving(model) as server:
        async with (
            WsClient(server.host, Hello(codec="raw", seed=1, prompt="a cat")) as one,
            WsClient(server.host, Hello(codec="raw", seed=2, prompt="rain falls slowly")) as other,
        ):
            first, second = await one.frames(SECTION_FRAMES + 1), await other.frames(SECTION_FRAMES + 1)
            assert not np.array_equal(pixels(first[-1]), pixels(second[-1]))
            assert server.house.engine.stats().num_failures == 0


async def test_a_world_outlives_its_server(parts, tmp_path):
    model = tiny.framepack_of(parts, weights=QUICK)
    async with serving(model, tmp_path) as server, WsClient(server.host, Hello(codec="raw", seed=1)) as client:
        session = client.welcome.session
        last = (await client.frames(2 * SECTION_FRAMES))[-1].receipt.frame
    async with serving(model, tmp_path) as server:
        handle = await server.house.engine.resume(session)
        assert handle.num_memories > 3
        assert handle._line.world.next_frame > last
        assert handle._line.world.state.sections >= 2


async def test_a_recalling_model_plays(parts):
    model = tiny.framepack_of(parts, weights=QUICK, num_recalled=2)
    async with serving(model) as server, WsClient(server.host, Hello(codec="raw", seed=1)) as client:
        assert client.welcome.num_recalled == 2
        await client.send(Input(seq=1, keys=["ArrowLeft"]))
        while not (message := await client.next(Frame)).receipt.frame > 9 * SECTION_FRAMES:
            assert not isinstance(message, Error)


@pytest.mark.parametrize("order", ["vanilla", "inverted", "endpoint", "planned"])
def test_clips_are_made_in_every_order(parts, tmp_path: Path, order):
    image = tmp_path / "start.png"
    image.write_bytes(png())
    request = ClipRequest(
        model="framepack-i2v",
        order=order,
        seconds=3 * SECTION_FRAMES / 30,
        prompt="a cat walks",
        timeline="[0s: turn=1] [800ms: rain falls slowly]",
        given=Given(image=str(image), keep=False),
        size=(80, 48),
    )
    submit(tmp_path / "queue", request, tmp_path / "clip.mp4", created=1.0)
    model, told = tiny.framepack_of(parts, weights=I2V), []
    studio = Studio(lambda _: model, tell=lambda _job, progress: told.append(progress))
    [ended] = studio.run_queue(tmp_path / "queue")
    assert (ended.state, ended.problem) == ("done", "")
    frames = read_video(tmp_path / "clip.mp4")
    assert frames.shape == (3 * SECTION_FRAMES, 48, 80, 3)
    assert max(progress.step for progress in told) == model.spec.num_steps


def test_a_clip_arrives_at_an_image_and_goes_on_from_a_video(parts, tmp_path: Path):
    """First the clip is made, inverted, then another of it."""
    (tmp_path / "end.png").write_bytes(png())
    model = tiny.framepack_of(parts, weights=I2V)
    first = ClipRequest(
        model="framepack-i2v", order="inverted", seconds=0.8, given=Given(end=str(tmp_path / "end.png")), size=(80, 48)
    )
    second = ClipRequest(
        model="framepack-i2v", order="vanilla", seconds=0.4, given=Given(video=str(tmp_path / "1.mp4")), size=(80, 48)
    )
    for number, request in enumerate([first, second], 1):
        submit(tmp_path / "queue", request, tmp_path / f"{number}.mp4", created=float(number))
        [ended] = Studio(lambda _: model, tell=lambda *_: None).run_queue(tmp_path / "queue")
        assert (ended.state, ended.problem) == ("done", "")
    assert len(read_video(tmp_path / "1.mp4")) == 2 * SECTION_FRAMES + 1
    assert len(read_video(tmp_path / "2.mp4")) == 3 * SECTION_FRAMES + 1
