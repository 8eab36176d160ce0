"""Standard players watch by WHEP: GStreamer in a process of its own, beside an aiortc client (see `test_rtc`)."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from server.serve import ServeConfig
from server.stream import StreamConfig, build_stream
from tests.server.running import Running, running, served, until
from tests.server.tiny_model import TinyModel
from tests.server.ws_client import WsClient

pytestmark = pytest.mark.players
logger = logging.getLogger("figures")  # seen with `-o log_cli=true`

VIEWER = Path(__file__).parent / "gst_viewer.py"
SIZE = [64, 32]  # of the tiny model's pictures: they are doubled


async def watch(server: Running, session: str, *, num_frames: int) -> Any:
    """What a GStreamer viewer of a session has decoded; it has left when this returns."""
    url = f"http://{server.host}/whep?role=viewer&session={session}"
    command = ["/usr/bin/python3", str(VIEWER), url, str(num_frames)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(told)


async def test_gstreamer_watches_a_player() -> None:
    async with running() as server, WsClient(server.host) as player:
        seen = await watch(server, player.welcome.session, num_frames=50)
        logger.warning("GStreamer: first frame after %.0f ms", seen["first_ms"])
        assert len(seen["frames"]) >= 50
        assert all(frame[:2] == SIZE for frame in seen["frames"])
        await until(lambda: len(server.house.lobby._places) == 1)  # its DELETE was taken
        await player.frames(2)


async def test_gstreamer_watches_a_stream_that_moves() -> None:
    config = StreamConfig(ServeConfig(port=0), seed=3)
    async with served(lambda ready: build_stream(TinyModel(), config, ready=ready)) as server:
        seen = await watch(server, "live", num_frames=100)
    levels = [level for *_, level in seen["frames"]]
    assert len(levels) >= 100 and max(levels) - min(levels) > 3
