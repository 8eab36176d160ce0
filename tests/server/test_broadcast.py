"""A session on the air, with a real engine: encoded once, the player first, key frames shared."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from server.broadcast import KEY_GAP, REPEAT_AFTER, Air, Broadcast, Watcher
from server.encode import EncodeConfig
from server.engine import Engine, EngineConfig
from server.mailbox import Shot
from server.metrics import Metrics
from server.protocol import Error, Message, Recalled, Status
from server.rate import START_RANGE
from tests.server.running import until
from tests.server.tiny_model import TinyModel


@asynccontextmanager
async def on_air() -> AsyncIterator[tuple[Broadcast, Metrics]]:
    metrics, engine = Metrics(), Engine(TinyModel(), EngineConfig())
    engine.start()
    with ThreadPoolExecutor(1, thread_name_prefix="encode") as executor:
        handle = await engine.open(seed=1)
        handle.player_joined()
        air = Air(engine.model.spec, EncodeConfig(), executor, engine.clock, metrics)
        broadcast = Broadcast(handle, air)
        running = asyncio.ensure_future(broadcast.run())
        yield broadcast, metrics
        running.cancel()
        await asyncio.wait([running])
    await engine.stop(drain=False)


async def pictures(watcher: Watcher, count: int) -> list[Shot]:
    async with asyncio.timeout(15):
        return [await watcher.pictures.get() for _ in range(count)]


async def message(watcher: Watcher, kind: type[Message]) -> Any:
    async with asyncio.timeout(15):
        while not isinstance(found := await watcher.messages.get(), kind):
            pass
        return found


async def test_all_watchers_of_a_codec_get_the_same_picture() -> None:
    async with on_air() as (broadcast, metrics):
        one, other = (broadcast.join(role="viewer", codec="h264") for _ in range(2))
        first, second = await asyncio.gather(pictures(one, 5), pictures(other, 5))
        assert [shot.picture for shot in first] == [shot.picture for shot in second]
        assert first[0].picture is second[0].picture and first[0].picture.key
        assert sum(shot.picture.key for shot in first) == 1
        stamps = [shot.timestamp for shot in first]
        assert stamps == sorted(set(stamps))
        assert metrics.frames._value.get() <= first[-1].receipt.frame + 2


async def test_the_player_comes_first_whenever_it_joins() -> None:
    async with on_air() as (broadcast, _):
        viewer = broadcast.join(role="viewer", codec="raw")
        player = broadcast.join(role="player", codec="raw")
        order: list[str] = []
        for watcher in (viewer, player):
            put = watcher.pictures.put

            def noted(shot: Shot, put: Callable[[Shot], None] = put, role: str = watcher.role) -> None:
                order.append(role)
                put(shot)

            watcher.pictures.put = noted  # type: ignore[method-assign]
        await pictures(player, 2)
        assert order[:2] == ["player", "viewer"]


async def test_key_frames_that_many_ask_for_are_coalesced() -> None:
    async with on_air() as (broadcast, metrics):
        watcher = broadcast.join(role="viewer", codec="h264")
        await pictures(watcher, 1)
        keys = 0
        began = asyncio.get_running_loop().time()
        while (took := asyncio.get_running_loop().time() - began) < 1.0:
            broadcast.needs_key()
            keys += (await pictures(watcher, 1))[0].picture.key
        assert 2 <= keys <= took / KEY_GAP + 1
        assert metrics.key_frames._value.get() == keys + 1


async def test_one_who_joins_in_a_pause_sees_the_last_picture() -> None:
    async with on_air() as (broadcast, _):
        first = broadcast.join(role="player", codec="h264")
        await pictures(first, 3)
        broadcast.handle.settings(paused=True)
        await asyncio.sleep(0.2)
        late = broadcast.join(role="viewer", codec="jpeg")
        began = asyncio.get_running_loop().time()
        (shot,) = await pictures(late, 1)
        assert asyncio.get_running_loop().time() - began < 10 * REPEAT_AFTER
        assert shot.picture.codec == "jpeg"


async def test_encoding_is_left_to_its_thread_and_to_when_someone_watches() -> None:
    async with on_air() as (broadcast, metrics):
        await asyncio.sleep(0.1)
        assert metrics.encode._sum.get() == 0
        await pictures(broadcast.join(role="viewer", codec="h264"), 1)
        assert any(thread.name.startswith("encode") for thread in threading.enumerate())


async def test_status_and_recall_are_told_and_then_the_end() -> None:
    async with on_air() as (broadcast, _):
        watcher = broadcast.join(role="player", codec="raw")
        broadcast.handle.player_joined()
        recalled = await message(watcher, Recalled)
        assert recalled.frame >= 0
        status = await message(watcher, Status)
        assert 2 < status.fps < 75 and status.viewers == 0 and not status.paused
        await broadcast.handle.close("session.closed", "the end")
        assert (await message(watcher, Error)).code == "session.closed"
        late = broadcast.join(role="viewer", codec="raw")
        assert (await message(late, Error)).code == "session.closed"


async def test_a_late_player_lowers_the_bit_rate_and_a_late_viewer_does_not() -> None:
    for role in ("viewer", "player"):
        async with on_air() as (broadcast, metrics):
            broadcast.join(role=role, codec="h264")  # type: ignore[arg-type]  # reads nothing
            await until(metrics.dropped.labels(role, "h264")._value.get)
            rate = broadcast._rate.bit_rate(now=broadcast._air.clock())
            assert (rate < START_RANGE[0]) == (role == "player")
