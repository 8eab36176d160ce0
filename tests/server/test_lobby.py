"""Who gets a seat, who loses one, and what becomes of the session; with a real engine."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from server.auth import Grant, Refused
from server.broadcast import Air
from server.encode import EncodeConfig
from server.engine import Engine, EngineConfig
from server.lobby import Lobby, LobbyConfig
from server.metrics import Metrics
from server.protocol import Error, Goaway, Hello, ProtocolError, Welcome, encode
from server.protocol import Input as InputMessage
from server.tickets import Ticket, Tickets
from tests.server.running import until
from tests.server.tiny_model import TinyModel

ANYONE = Grant()


@pytest.fixture
async def lobby() -> AsyncIterator[Lobby]:
    engine = Engine(TinyModel(), EngineConfig(max_sessions=2))
    engine.start()
    with ThreadPoolExecutor(1) as executor:
        async with asyncio.TaskGroup() as tasks:
            air = Air(engine.model.spec, EncodeConfig(), executor, engine.clock, Metrics())
            config = LobbyConfig(viewers=2, messages_per_second=5, per_token=2)
            yield Lobby(engine, air=air, tickets=Tickets(b"k" * 32), config=config, tasks=tasks)
            await engine.stop(drain=False)


async def refusal(lobby: Lobby, hello: Hello, allowed: Grant = ANYONE) -> Refused:
    with pytest.raises(Refused) as refused:
        await lobby.enter(hello, allowed)
    return refused.value


async def test_a_player_gets_a_world_of_its_own_and_its_description(lobby: Lobby) -> None:
    one, other = await lobby.enter(Hello(seed=1), ANYONE), await lobby.enter(Hello(), ANYONE)
    assert one.welcome.session != other.welcome.session
    assert one.broadcast.handle.has_player
    assert one.welcome.axes[0].keys == {"ArrowLeft": -1.0, "ArrowRight": 1.0}
    assert one.welcome.axes[0].pointer == "x"
    full = await refusal(lobby, Hello())
    assert (full.code, full.status) == ("server.busy", 503) and full.retry_after >= 1
    await lobby.leave(one)
    await lobby.leave(other)


async def test_who_finds_no_room_gets_a_place_and_is_let_in_in_order(lobby: Lobby) -> None:
    one, other = [await lobby.enter(Hello(), ANYONE) for _ in range(2)]
    first, second = [await refusal(lobby, Hello()) for _ in range(2)]
    assert (first.place, second.place, lobby.num_waiting) == (1, 2, 2)
    await lobby.leave(one, unused=True)
    await until(lambda: one.broadcast.handle.ended)
    assert (await refusal(lobby, Hello())).place == 3  # there is room, but not for one who has just come
    assert (await refusal(lobby, Hello(waiting=second.waiting))).place == 2
    new = await lobby.enter(Hello(waiting=first.waiting), ANYONE)
    assert (await refusal(lobby, Hello(waiting=second.waiting))).place == 1
    back = await lobby.enter(Hello(resume=other.welcome.resume), ANYONE)  # who has a world waits for none
    for seat in (new, other, back):
        await lobby.leave(seat)


async def test_viewers_have_their_limit_and_no_ticket(lobby: Lobby) -> None:
    player = await lobby.enter(Hello(), ANYONE)
    hello = Hello(session=player.welcome.session, role="viewer")
    viewers = [await lobby.enter(hello, Grant("viewer")) for _ in range(2)]
    assert {viewer.welcome.resume for viewer in viewers} == {""}
    full = await refusal(lobby, hello)
    assert (full.code, full.status) == ("session.full", 503)
    await lobby.leave(viewers.pop())
    viewers.append(await lobby.enter(hello, ANYONE))
    for seat in (player, *viewers):
        await lobby.leave(seat)


async def test_a_session_waits_for_its_player_but_not_if_it_was_opened_for_nothing(lobby: Lobby) -> None:
    played, unused = await lobby.enter(Hello(), ANYONE), await lobby.enter(Hello(), ANYONE)
    await lobby.leave(played)
    await lobby.leave(unused, unused=True)
    assert played.broadcast.handle.ended is None and not played.broadcast.handle.has_player
    await until(lambda: unused.broadcast.handle.ended)
    back = await lobby.enter(Hello(resume=played.welcome.resume), ANYONE)
    assert back.welcome.session == played.welcome.session
    await lobby.leave(back, unused=True)  # it was not opened for this seat
    assert back.broadcast.handle.ended is None


async def test_a_retired_player_steers_no_more_and_its_leaving_changes_nothing(lobby: Lobby) -> None:
    old = await lobby.enter(Hello(), ANYONE)
    watcher = old.watch("raw")
    new = await lobby.enter(Hello(resume=old.welcome.resume), ANYONE)
    told = await watcher.messages.get()
    assert isinstance(told, Error) and told.code == "session.moved"
    with pytest.raises(ProtocolError) as refused:
        old.read(encode(InputMessage(seq=1)))
    assert refused.value.code == "session.moved"
    await lobby.leave(old)
    assert new.broadcast.handle.has_player
    await lobby.leave(new)
    assert not new.broadcast.handle.has_player


async def test_one_signed_token_lets_in_so_many_and_the_static_one_any(lobby: Lobby) -> None:
    one, other = Grant(bearer="one"), Grant(bearer="other")
    player = await lobby.enter(Hello(), ANYONE)
    hello = Hello(session=player.welcome.session, role="viewer")
    first, second = [await lobby.enter(hello, one) for _ in range(2)]
    assert (await refusal(lobby, hello, one)).code == "limit.token"
    assert (await refusal(lobby, hello, other)).code == "session.full"
    await lobby.leave(first)
    assert (await refusal(lobby, Hello(session="nowhere", role="viewer"), one)).code == "session.unknown"
    third = await lobby.enter(hello, one)  # who was refused has left no trace
    for seat in (player, second, third):
        await lobby.leave(seat)
    assert not lobby._bearers


async def test_greetings_come_with_what_is_known(lobby: Lobby) -> None:
    seat = await lobby.enter(Hello(), ANYONE)
    watcher = seat.watch("jpeg")
    seat.greet()
    assert isinstance(await watcher.messages.get(), Welcome)
    await lobby.leave(seat)


async def test_messages_are_paced_by_seat(lobby: Lobby) -> None:
    seat = await lobby.enter(Hello(), ANYONE)
    for seq in range(5):
        seat.read(encode(InputMessage(seq=seq)))
    with pytest.raises(ProtocolError) as refused:
        seat.read(encode(InputMessage(seq=5)))
    assert refused.value.code == "limit.messages"
    await lobby.leave(seat)


async def test_a_closed_lobby_tells_those_inside_and_waits_for_them(lobby: Lobby) -> None:
    seat = await lobby.enter(Hello(), ANYONE)
    watcher = seat.watch("raw")
    lobby.close()
    told = await watcher.messages.get()
    assert isinstance(told, Goaway) and told.resume == seat.welcome.resume
    assert (await refusal(lobby, Hello())).code == "server.leaving"
    waiting = asyncio.ensure_future(lobby.wait_until_empty())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await lobby.leave(seat)
    async with asyncio.timeout(10):
        await waiting


@pytest.mark.parametrize(
    ("hello", "allowed", "code"),
    [
        (Hello(), Grant("viewer"), "auth.role"),
        (Hello(session="s" * 24), ANYONE, "session.taken"),
        (Hello(session="s" * 24, role="viewer"), ANYONE, "session.unknown"),
        (Hello(session="s" * 24, role="viewer"), Grant("viewer", "t" * 24), "auth.session"),
        (Hello(resume="s.x"), ANYONE, "session.ticket"),
        (Hello(resume=Tickets(b"k" * 32).issue(Ticket("gone"))), ANYONE, "session.unknown"),
        (Hello(resume=Tickets(b"k" * 32).issue(Ticket("gone"))), Grant("player", "other"), "auth.session"),
    ],
)
async def test_who_may_not_sit_is_told_why(lobby: Lobby, hello: Hello, allowed: Grant, code: str) -> None:
    assert (await refusal(lobby, hello, allowed)).code == code
