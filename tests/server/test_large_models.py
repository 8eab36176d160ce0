"""Tiny checkpoints in the official layout through the real loader, server and WebSocket, by their entry points."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.world_model import WorldModel
from server.cli import app
from server.clip_commands import request_of
from server.protocol import Hello
from server.serve import DrainingServer, ServeConfig, build, load_model
from tests.model.checkpoints import official
from tests.model.clips.videos import read_video
from tests.model.hunyuan import tiny
from tests.server.running import served
from tests.server.ws_client import WsClient

SMALL = "device=cpu width=80 height=48 schedule=f1k1f16k4f2k2f1k1_g3 steps=2"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weights")
    official.write_framepack(root, tiny.parts(), layout=official.cached)
    official.write_framepack(root, tiny.parts(), layout=official.cached, model="framepack-i2v")
    official.write_wan(root, layout=official.cached)
    official.write_helios(root)
    return root


def serve(model: WorldModel) -> Callable[[Callable[[str], None]], DrainingServer]:
    return lambda ready: build(model, ServeConfig(port=0), ready=ready)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, about diffusers' scheduler
@pytest.mark.parametrize("name", ["framepack-f1", "framepack-i2v", "wan", "helios"])
async def test_its_frames_arrive(shelf: Path, name: str) -> None:
    model = await asyncio.to_thread(load_model, f"{name} weights='{shelf}' {SMALL}")
    section = model.spec.section_latents * model.spec.frames_per_latent
    async with (
        served(serve(model)) as server,
        WsClient(server.host, Hello(codec="raw", seed=2, prompt="rain")) as client,
    ):
        assert client.welcome.model == name
        frames = await client.frames(section + 2)  # of two sections
    assert all(len(frame.data) == 48 * 80 * 3 for frame in frames)
    assert len({bytes(frame.data) for frame in frames}) > 2


@pytest.mark.parametrize(("name", "order"), [("framepack-f1", "vanilla"), ("framepack-i2v", "inverted")])
def test_a_clip_is_made_by_the_command(shelf: Path, tmp_path: Path, name: str, order: str) -> None:
    out, model = tmp_path / "a clip.mp4", f"{name} weights='{shelf}' {SMALL}"
    asked = ["--model", model, "--prompt", "rain", "--seconds", "0.7", "--queue", str(tmp_path / "queue")]
    result = CliRunner().invoke(app, ["generate", str(out), "--order", order, *asked])
    assert result.exit_code == 0, result.output
    assert len(read_video(out)) == 21
    assert request_of(out).model == model
