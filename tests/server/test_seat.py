"""What players and viewers may ask for, by the messages themselves."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.auth import Grant
from server.broadcast import Air, Broadcast
from server.encode import EncodeConfig
from server.engine import Engine, EngineConfig
from server.hall import Hall
from server.limits import Bucket
from server.metrics import Metrics
from server.protocol import (
    Ack,
    Error,
    FromClient,
    Hello,
    Input,
    Ping,
    Pong,
    Prompt,
    ProtocolError,
    Reset,
    Settings,
    Welcome,
)
from server.seat import Seat
from tests.server.running import until
from tests.server.tiny_model import TinyModel


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine(TinyModel(), EngineConfig())
    engine.start()
    yield engine
    await engine.stop(drain=False)


@pytest.fixture
async def broadcast(engine: Engine) -> AsyncIterator[Broadcast]:
    with ThreadPoolExecutor(1) as executor:
        air = Air(engine.model.spec, EncodeConfig(), executor, engine.clock, Metrics())
        yield Broadcast(await engine.open(seed=1), air)


def seat(broadcast: Broadcast, role: str = "player") -> Seat:
    welcome = Welcome("s", "", role, "tiny", 32, 16, 50.0, "", 0, 0, [])  # type: ignore[arg-type]
    bucket = Bucket(9, rate=9, clock=lambda: 0.0)
    hall = Hall(broadcast, task=asyncio.ensure_future(asyncio.sleep(0)), issue=lambda _: "ticket")
    taken = Seat(hall, welcome=welcome, bucket=bucket, clock=lambda: 3.0, allowed=Grant())
    taken.watch("raw")
    return taken


async def told(taken: Seat) -> object:
    assert taken._watcher is not None
    return await taken._watcher.messages.get()


async def test_a_player_steers_with_the_time_of_arrival(broadcast: Broadcast) -> None:
    await seat(broadcast).obey(Input(seq=2, ts=7.0, keys=["KeyW"]))
    (applied,) = broadcast.handle.controls.take(4.0, num_frames=1)
    assert (applied.seq, applied.client_ts, applied.t_recv, applied.t_applied) == (2, 7.0, 3.0, 4.0)
    assert applied.vector.tolist() == [0.0, 1.0]


async def test_what_the_model_has_no_axis_for_is_told(broadcast: Broadcast) -> None:
    player = seat(broadcast)
    player.steer(Input(seq=1, axes={"fly": 1.0}))
    error = await told(player)
    assert isinstance(error, Error) and error.code == "input.axis"


async def test_settings_take_effect(broadcast: Broadcast) -> None:
    await seat(broadcast).obey(Settings(recall=False, paused=True))
    await until(lambda: broadcast.handle.paused and not broadcast.handle.recalls)


async def test_what_is_wrong_with_an_image_or_the_engine_is_told_and_ends_nothing(
    broadcast: Broadcast, engine: Engine
) -> None:
    player = seat(broadcast)
    await player.obey(Reset(image=b"none"))
    error = await told(player)
    assert isinstance(error, Error) and error.code == "input.image"
    await engine.stop(drain=False)
    await player.obey(Prompt(text="red"))
    error = await told(player)
    assert isinstance(error, Error) and error.code == "input.busy" and error.retry_after > 0


@pytest.mark.parametrize("message", [Hello(), Ack(frame=1)])
async def test_messages_of_the_transports_are_out_of_order(broadcast: Broadcast, message: FromClient) -> None:
    with pytest.raises(ProtocolError) as refused:
        await seat(broadcast).obey(message)
    assert refused.value.code == "message.order"


@pytest.mark.parametrize("message", [Input(seq=1), Settings(paused=True), Prompt(text="x"), Reset(seed=1)])
async def test_a_viewer_may_ping_and_nothing_else(broadcast: Broadcast, message: FromClient) -> None:
    viewer = seat(broadcast, "viewer")
    await viewer.obey(Ping(ts=2.0))
    assert await told(viewer) == Pong(ts=2.0)
    with pytest.raises(ProtocolError) as refused:
        await viewer.obey(message)
    assert refused.value.code == "role.viewer"
    assert broadcast.handle.controls.take(4.0, num_frames=1)[0].seq == -1
