"""The Python client against scripted servers, whose contract checks what it sends, and against the real one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import msgspec
import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from client_demo.client import Client, ServerError
from server import protocol as wire
from tests.client_demo.contract import check
from tests.client_demo.serving import served

M = TypeVar("M", bound=wire.Message)
Script = Callable[[ServerConnection], Awaitable[None]]

WIDTH, HEIGHT = 8, 6
WELCOME = wire.Welcome(
    session="s",
    resume="first",
    role="player",
    model="scripted",
    width=WIDTH,
    height=HEIGHT,
    frame_rate=20.0,
    schedule="f1k1_g1",
    context_tokens=2,
    num_recalled=0,
    axes=[wire.Axis("move", {"KeyW": 1.0}), wire.Axis("turn", pointer="x", pointer_gain=0.1)],
)

WATCHING = msgspec.structs.replace(WELCOME, role="viewer", resume="")


def picture(number: int, *, applied_seq: int = -1) -> wire.Frame:
    """Frame `number`, all of whose pixels have that value."""
    receipt = wire.Receipt(number, applied_seq, 1.0, 2.0, 3.0, 4.0)
    return wire.Frame(receipt, "raw", True, WIDTH, HEIGHT, bytes([number]) * (WIDTH * HEIGHT * 3))


async def send(socket: ServerConnection, *messages: wire.Message) -> None:
    for message in messages:
        await socket.send(wire.encode(message))


async def receive(socket: ServerConnection, kind: type[M]) -> M:
    """The next message, which must be of this kind and as the contract says."""
    data = await socket.recv()
    assert isinstance(data, bytes)
    check(data)
    message = wire.decode_from_client(data)
    assert isinstance(message, kind), message
    return message


@asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[str]:
    """A server that plays one script per connection, in order, and then closes it; every script must end well."""
    waiting = list(scripts)
    outcomes: list[asyncio.Task[None]] = []

    async def play(socket: ServerConnection) -> None:
        task = asyncio.ensure_future(waiting.pop(0)(socket))
        outcomes.append(task)
        await asyncio.wait([task])

    async with serve(play, "127.0.0.1", 0, subprotocols=[wire.SUBPROTOCOL]) as server:  # type: ignore[list-item]
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/ws"
    assert waiting == []
    for outcome in outcomes:
        outcome.result()


async def test_hello_says_where_to_and_leaves_the_rest_out() -> None:
    async def script(socket: ServerConnection) -> None:
        assert socket.subprotocol == wire.SUBPROTOCOL
        assert await receive(socket, wire.Hello) == wire.Hello(codec="raw", seed=0, token="t", role="viewer")
        await send(socket, WELCOME)

    async with scripted(script) as url, Client(url, seed=0, token="t", role="viewer") as world:
        assert world.axes == ["move", "turn"]
        assert world.frame_rate == 20.0


async def test_a_place_has_no_other_fields() -> None:
    with pytest.raises(TypeError, match="sead"):
        Client("ws://127.0.0.1/ws", sead=7)


async def test_frames_come_in_order_with_receipts_and_are_acknowledged() -> None:
    async def script(socket: ServerConnection) -> None:
        await receive(socket, wire.Hello)
        status = wire.Status(fps=20.0, generate_ms=1.0, context_tokens=2, memory_entries=3, viewers=0)
        await send(socket, WELCOME, picture(1), status, wire.Pong(0.0), picture(2, applied_seq=9))
        assert [await receive(socket, wire.Ack) for _ in range(2)] == [wire.Ack(1), wire.Ack(2)]

    async with scripted(script) as url, Client(url) as world:
        first, second = await world.frame(), await world.frame()
        assert (first.receipt.frame, first.receipt.applied_seq) == (1, -1)
        assert (second.receipt.frame, second.receipt.applied_seq) == (2, 9)
        assert first.pixels.shape == (HEIGHT, WIDTH, 3)
        assert (first.pixels == 1).all()
        assert (second.pixels == 2).all()
        assert world.status["memory_entries"] == 3


async def test_steering_states_everything_with_totals() -> None:
    async def script(socket: ServerConnection) -> None:
        await receive(socket, wire.Hello)
        await send(socket, WELCOME)
        states = [await receive(socket, wire.Input) for _ in range(4)]
        assert [state.seq for state in states] == [1, 2, 3, 4]
        assert [state.keys for state in states] == [["KeyW"], ["KeyW", "KeyQ"], [], ["KeyW"]]
        assert [state.presses for state in states][-1] == {"KeyW": 2, "KeyQ": 1}
        assert [state.pointer for state in states] == [(0, 0), (5, -2), (5, -2), (6, -2)]
        assert [state.axes for state in states] == [{}, {"turn": 0.5}, {}, {}]
        assert states[0].ts < states[3].ts

    async with scripted(script) as url, Client(url) as world:
        assert await world.steer(keys=["KeyW"]) == 1
        assert await world.steer(keys=["KeyW", "KeyQ"], axes={"turn": 0.5}, pointer=(5, -2)) == 2
        assert await world.steer() == 3
        assert await world.steer(keys=["KeyW"], pointer=(1, 0)) == 4


async def test_a_broken_connection_goes_on_in_the_same_world() -> None:
    async def break_off(socket: ServerConnection) -> None:
        await receive(socket, wire.Hello)
        await send(socket, WELCOME, picture(1))
        assert (await receive(socket, wire.Input)).presses == {"KeyW": 1}
        await receive(socket, wire.Ack)
        socket.transport.abort()

    async def go_on(socket: ServerConnection) -> None:
        assert await receive(socket, wire.Hello) == wire.Hello(resume="first", token="t", codec="raw")
        await send(socket, WELCOME, picture(2))
        await receive(socket, wire.Ack)
        again = await receive(socket, wire.Input)
        assert (again.seq, again.presses) == (2, {"KeyW": 1})  # totals count from the connection's beginning

    async with scripted(break_off, go_on) as url, Client(url, seed=7, token="t") as world:
        await world.steer(keys=["KeyW"])
        assert (await world.frame()).receipt.frame == 1
        assert (await world.frame()).receipt.frame == 2
        await world.steer(keys=["KeyW"])


async def test_goaway_says_when_and_with_which_token_to_come_back() -> None:
    left_at = 0.0

    async def leave(socket: ServerConnection) -> None:
        nonlocal left_at
        await receive(socket, wire.Hello)
        await send(socket, WELCOME, wire.Goaway(resume="second", retry_after=0.2))
        left_at = asyncio.get_running_loop().time()

    async def be_back(socket: ServerConnection) -> None:
        assert (await receive(socket, wire.Hello)).resume == "second"
        assert asyncio.get_running_loop().time() - left_at > 0.19
        await send(socket, WELCOME, picture(3))
        await receive(socket, wire.Ack)

    async with scripted(leave, be_back) as url, Client(url) as world:
        assert (await world.frame()).receipt.frame == 3


async def test_a_refusal_is_raised_with_its_code_and_time() -> None:
    async def refuse(socket: ServerConnection) -> None:
        await receive(socket, wire.Hello)
        await send(socket, wire.Error("server.full", "no place", retry_after=4.5))
        with pytest.raises(ConnectionClosed):
            await socket.recv()

    async with scripted(refuse) as url:
        with pytest.raises(ServerError, match="server.full: no place") as refusal:
            await Client(url).__aenter__()
        assert refusal.value.retry_after == 4.5


async def test_the_queue_of_a_full_server_is_waited_out() -> None:
    places = []

    async def refuse(socket: ServerConnection, *, place: int, waiting: str = "") -> None:
        assert (await receive(socket, wire.Hello)).waiting == waiting
        await send(socket, wire.Error("server.busy", "no room", retry_after=0.01, place=place, waiting="mine"))
        with pytest.raises(ConnectionClosed):
            await socket.recv()

    async def let_in(socket: ServerConnection) -> None:
        assert (await receive(socket, wire.Hello)).waiting == "mine"
        await send(socket, WELCOME)

    scripts = (partial(refuse, place=2), partial(refuse, place=1, waiting="mine"), let_in)
    async with scripted(*scripts) as url, Client(url, queued=places.append) as world:
        assert world.welcome["session"] == "s"
    assert places == [2, 1]
    async with scripted(partial(refuse, place=3)) as url:
        with pytest.raises(ServerError) as refusal:
            await Client(url).__aenter__()
        assert (refusal.value.place, refusal.value.waiting) == (3, "mine")


async def test_one_who_queues_gets_the_world_that_becomes_free() -> None:
    places: list[int] = []
    with served("tiny-full") as address:
        url = address.replace("http", "ws", 1) + "ws"
        async with Client(url) as player:
            await player.frame()
            waiting = Client(url, queued=places.append)
            entering = asyncio.ensure_future(waiting.__aenter__())
            while not places:
                await player.frame()
        async with await entering as world:
            await world.frame()
    assert set(places) == {1}


async def test_a_server_that_stays_away_is_given_up() -> None:
    async def break_off(socket: ServerConnection) -> None:
        await receive(socket, wire.Hello)
        await send(socket, WELCOME)
        socket.transport.abort()

    async with scripted(break_off) as url:
        world = await Client(url, patience=0.3).__aenter__()
    with pytest.raises(ConnectionError, match="within 0.3 s"):
        await world.frame()


async def test_a_viewer_sees_the_players_frames(url: str) -> None:
    async with Client(url, seed=3) as player, Client(url, session=player.welcome["session"], role="viewer") as viewer:
        watched: dict[int, np.ndarray] = {}
        played: dict[int, np.ndarray] = {}
        while not (both := watched.keys() & played.keys()):
            for client, frames in ((viewer, watched), (player, played)):
                frame = await client.frame()
                frames[frame.receipt.frame] = frame.pixels
        np.testing.assert_array_equal(*(frames[min(both)] for frames in (watched, played)))


async def test_a_world_of_the_same_seed_starts_the_same(url: str) -> None:
    starts = []
    for seed in (3, 3, 4):
        async with Client(url, seed=seed) as world:
            starts.append((await world.frame()).pixels.astype(int))
    assert np.abs(starts[0] - starts[1]).mean() == 0
    assert np.abs(starts[0] - starts[2]).mean() > 20


async def test_after_a_hand_over_both_come_back_in_their_new_roles() -> None:
    async def promote(socket: ServerConnection) -> None:
        assert (await receive(socket, wire.Hello)).role == "viewer"
        await send(socket, WATCHING, wire.Seating(role="viewer"))
        await receive(socket, wire.Claim)
        await send(socket, wire.Seating(role="player", resume="mine"), picture(1))
        await receive(socket, wire.Ack)
        assert (await receive(socket, wire.Input)).presses == {"KeyW": 1}
        socket.transport.abort()

    async def demote(socket: ServerConnection) -> None:
        hello = await receive(socket, wire.Hello)
        assert (hello.role, hello.resume, hello.session) == ("player", "mine", "")
        await send(socket, WELCOME, wire.Seating(role="player", resume="mine", num_asking=1), picture(2))
        await receive(socket, wire.Ack)
        await receive(socket, wire.Yield)
        await send(socket, wire.Seating(role="viewer"), picture(3))
        await receive(socket, wire.Ack)
        socket.transport.abort()

    async def welcome_back(socket: ServerConnection) -> None:
        assert await receive(socket, wire.Hello) == wire.Hello(role="viewer", session="s", codec="raw")
        await send(socket, WATCHING, picture(4))
        await receive(socket, wire.Ack)

    async with scripted(promote, demote, welcome_back) as url:
        async with Client(url, session="s", role="viewer") as world:
            await world.claim()
            assert (await world.frame()).receipt.frame == 1
            await world.steer(keys=["KeyW"])
            assert (await world.frame()).receipt.frame == 2
            assert world.seating["num_asking"] == 1
            await world.hand_over()
            assert [(await world.frame()).receipt.frame for _ in range(2)] == [3, 4]


async def test_two_clients_exchange_the_controls(url: str) -> None:
    async with Client(url, seed=3) as player, Client(url, session=player.welcome["session"], role="viewer") as viewer:
        await viewer.claim()
        while not player.seating.get("num_asking"):
            await player.frame()
        await player.hand_over()
        while viewer.seating.get("role") != "player":
            await viewer.frame()
        seq = await viewer.steer(axes={"turn": 1.0})
        while (await viewer.frame()).receipt.applied_seq < seq:
            continue
        while player.seating["role"] != "viewer":
            await player.frame()
