"""An endless stream of the tiny model: watched by WebSocket and WHEP, published by WHIP, ended and begun again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.auth import ExposedError
from server.diary import DiaryConfig
from server.engine import EngineConfig
from server.protocol import Frame, Hello
from server.rtc import RtcConfig
from server.serve import ServeConfig, UnknownModelError
from server.stream import StreamConfig, build_stream, stream
from server.whip_http import WhipConfig
from tests.server.rtc_client import RtcClient
from tests.server.running import Running, fetch, served, until
from tests.server.tiny_model import TinyModel
from tests.server.whip_receiver import receiving
from tests.server.ws_client import WsClient, refused

CONFIG = StreamConfig(ServeConfig(port=0, rtc=RtcConfig(addresses=("127.0.0.1",))), seed=3)
VIEWER = Hello(session="live", role="viewer", codec="raw")


@asynccontextmanager
async def streaming(config: StreamConfig = CONFIG) -> AsyncIterator[Running]:
    async with served(lambda ready: build_stream(TinyModel(), config, ready=ready)) as server:
        await until(lambda: server.house.engine.find(config.session))
        yield server


def newest(server: Running) -> int:
    """The frame that the session shows now."""
    (handle,) = server.house.engine.handles
    with handle.subscribe() as frames:
        return -1 if frames._newest is None else int(frames._newest.index)


async def test_viewers_see_a_world_that_moves_by_itself_on_websocket_and_whep() -> None:
    async with streaming() as server, WsClient(server.host, VIEWER) as viewer:
        frames = [np.frombuffer(frame.data, np.uint8).astype(int) for frame in await viewer.frames(60)]
        assert np.abs(frames[-1] - frames[0]).mean() > 5
        assert viewer.welcome.role == "viewer"
        async with RtcClient(channels=False) as player:
            sdp = (await player.offer()).encode()
            headers = {"Content-Type": "application/sdp"}
            answer = await fetch(server.host, "POST", "/whep?session=live&role=viewer", body=sdp, headers=headers)
            await player.accept(answer.body.decode())
            assert (await player.frame()).width == 64


async def test_it_goes_on_when_nobody_watches_and_nobody_else_plays() -> None:
    async with streaming() as server:
        await until(lambda: newest(server) >= 3)
        await until(lambda: newest(server) >= 20)
        error, _ = await refused(server.host, Hello())
        assert error.code == "server.busy"
        assert (await refused(server.host, Hello(session="live")))[0].code == "session.taken"


async def test_what_ends_it_begins_it_again() -> None:
    async with streaming() as server:
        (handle,) = server.house.engine.handles
        await handle.close("session.failed", "the model failed too often")
        await until(lambda: server.house.engine.find("live") not in (None, handle))
        async with WsClient(server.host, VIEWER) as viewer:
            await viewer.next(Frame)


async def test_the_world_is_there_again_after_a_restart(tmp_path: Path) -> None:
    engine = EngineConfig(diary=DiaryConfig(folder=tmp_path))
    config = replace(CONFIG, serve=replace(CONFIG.serve, engine=engine))
    async with streaming(config) as server:
        await until(lambda: newest(server) >= 10)
        last = newest(server)
    async with streaming(config) as server, WsClient(server.host, VIEWER) as viewer:
        assert (await viewer.next(Frame)).receipt.frame >= last


async def test_a_damaged_world_makes_room_for_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "live.0000.world").write_bytes(b"no journal")
    config = replace(CONFIG, serve=replace(CONFIG.serve, engine=EngineConfig(diary=DiaryConfig(folder=tmp_path))))
    async with streaming(config) as server, WsClient(server.host, VIEWER) as viewer:
        await viewer.next(Frame)
    assert (tmp_path / "live.0001.world").exists()


async def test_it_goes_on_to_an_sfu_and_ends_there_with_the_server() -> None:
    async with receiving() as receiver:
        async with streaming(replace(CONFIG, whip=WhipConfig(receiver.url, token="key", first_wait=0.05))) as server:
            await until(lambda: receiver.streams and receiver.streams[0].track)
            frames = [await receiver.streams[0].frame() for _ in range(5)]
            assert frames[-1].width == 64
            (handle,) = server.house.engine.handles
            await handle.close("session.failed", "the model failed too often")
            await until(lambda: len(receiver.streams) == 2 and receiver.streams[1].track)
            assert receiver.deleted == ["/stream/0"]
            await receiver.streams[1].frame()  # connected: what is cut short before that, the endpoint ends by itself
        assert receiver.deleted == ["/stream/0", "/stream/1"]


async def test_the_address_is_one_to_watch_at() -> None:
    addresses: list[str] = []

    def make(ready: Any) -> Any:
        return build_stream(TinyModel(), CONFIG, ready=lambda address: (addresses.append(address), ready(address)))

    async with served(make) as server:
        assert addresses == [f"http://{server.host}/?session=live&role=viewer"]


def test_what_cannot_be_streamed_is_refused() -> None:
    with pytest.raises(ValueError, match="a session's name"):
        StreamConfig(session="../etc")
    exposed = replace(CONFIG, serve=replace(CONFIG.serve, host="0.0.0.0"))
    with pytest.raises(ExposedError):
        stream("no model is loaded for it", exposed, ready=print)
    with pytest.raises(UnknownModelError):
        stream("nonesuch", CONFIG, ready=print)
    model = TinyModel()
    model.spec = replace(model.spec, accepts_prompt=False)
    with pytest.raises(ValueError, match="expected no prompt"):
        build_stream(model, replace(CONFIG, prompt="a meadow"), ready=print)
