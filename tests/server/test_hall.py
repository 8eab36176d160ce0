"""The controls go from hand to hand over real connections, and are never in two."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from server.auth import AuthConfig, Grant, sign
from server.protocol import Claim, Error, Frame, Hello, Input, Message, Ping, Pong, Reset, Seating, Yield
from server.serve import ServeConfig
from tests.server.running import running
from tests.server.ws_client import WsClient, refused

SECRET = "s" * 32


def viewer_of(player: WsClient, **fields: Any) -> Hello:
    return Hello(session=player.welcome.session, role="viewer", codec="raw", **fields)


async def seated(client: WsClient, wanted: Callable[[Seating], bool]) -> Seating:
    while not wanted(seating := await client.next(Seating)):
        continue
    return seating


async def became(client: WsClient, role: str) -> Seating:
    return await seated(client, lambda seating: seating.role == role)


async def test_a_viewer_asks_and_the_player_hands_over() -> None:
    async with running() as server, WsClient(server.host) as old:
        assert (await old.next(Seating)).num_asking == 0
        async with WsClient(server.host, viewer_of(old)) as new:
            assert (await new.next(Seating)) == Seating(role="viewer")
            await old.send(Input(seq=900, keys=["ArrowRight"]))
            await new.send(Claim())
            assert (await seated(new, lambda s: s.place > 0)) == Seating(role="viewer", num_asking=1, place=1)
            assert (await seated(old, lambda s: s.num_asking > 0)).role == "player"
            await old.send(Yield())
            mine, theirs = await became(new, "player"), await became(old, "viewer")
            assert mine.resume and mine.resume != old.welcome.resume and theirs.resume == ""
            await new.send(Input(seq=1, keys=["KeyW"]))
            while (await new.next(Frame)).receipt.applied_seq != 1:
                continue  # the numbers of a new player begin anew


async def test_what_the_old_player_still_sends_steers_nothing_and_ends_nothing() -> None:
    async with running() as server, WsClient(server.host) as old, WsClient(server.host, viewer_of(old)) as new:
        await new.send(Claim())
        await seated(old, lambda s: s.num_asking > 0)
        for message in (Yield(), Input(seq=5, keys=["KeyW"]), Reset(seed=9)):
            await old.send(message)
        assert (await old.next(Error)).code == "input.role"
        await old.send(Ping(ts=1.0))
        await old.next(Pong)
        assert {frame.receipt.applied_seq for frame in (await new.frames(12))[4:]} == {-1}


async def test_who_handed_over_comes_back_as_a_viewer_only() -> None:
    async with running() as server, WsClient(server.host) as old, WsClient(server.host, viewer_of(old)) as new:
        await new.send(Claim())
        await seated(old, lambda s: s.num_asking > 0)
        await old.send(Yield())
        ticket = (await became(new, "player")).resume
        assert (await refused(server.host, Hello(resume=old.welcome.resume)))[0].code == "session.yielded"
        async with WsClient(server.host, Hello(resume=ticket, codec="raw")) as elsewhere:
            assert elsewhere.welcome.role == "player"
            assert (await new.end())[0].code == "session.moved"  # type: ignore[union-attr]


async def test_they_get_the_controls_in_the_order_of_asking() -> None:
    async with running() as server, WsClient(server.host) as player:
        hello = viewer_of(player)
        async with WsClient(server.host, hello) as one, WsClient(server.host, hello) as two:
            async with WsClient(server.host, hello) as gone:
                for place, viewer in enumerate((gone, one, two), 1):
                    await viewer.send(Claim())
                    await seated(viewer, lambda s, place=place: s.place == place)  # type: ignore[misc]
            await seated(two, lambda s: s.place == 2)
            await one.send(Yield())  # no longer
            await seated(two, lambda s: s.place == 1)
            await player.send(Yield())
            await became(two, "player")
            assert (await seated(one, lambda s: s.num_asking == 0)).role == "viewer"


async def test_nobody_to_hand_over_to_is_told() -> None:
    async with running() as server, WsClient(server.host) as player:
        await player.send(Yield())
        assert (await player.next(Error)).code == "input.nobody"
        await player.send(Claim())  # has them already
        await player.send(Ping(ts=1.0))
        await player.next(Pong)
        assert server.house.lobby._places.keys() == {seat for seat in server.house.lobby._places if seat.may_play}


async def test_a_viewers_token_never_gets_the_controls() -> None:
    config = ServeConfig(auth=AuthConfig(token="sesame", jwt_secret=SECRET))
    async with running(config) as server, WsClient(server.host, Hello(token="sesame", codec="raw")) as player:
        token = sign(SECRET, Grant("viewer", player.welcome.session), minutes=1)
        async with WsClient(server.host, viewer_of(player, token=token)) as viewer:
            await viewer.send(Claim())
            assert (await viewer.next(Error)).code == "input.role"
            await player.send(Yield())
            assert (await player.next(Error)).code == "input.nobody"


async def test_the_controls_wait_for_a_player_who_broke_off() -> None:
    async with running() as server, WsClient(server.host) as player, WsClient(server.host, viewer_of(player)) as viewer:
        await viewer.send(Claim())
        await seated(viewer, lambda s: s.place == 1)
        await player.socket.close()
        assert not (await seated(viewer, lambda s: not s.has_player)).resume
        async with WsClient(server.host, Hello(resume=player.welcome.resume, codec="raw")) as back:
            assert (await seated(back, lambda s: s.num_asking > 0)).role == "player"
            await back.send(Yield())
            await became(viewer, "player")


async def test_of_many_who_grasp_at_once_one_holds_the_controls() -> None:
    async with running() as server, WsClient(server.host) as first:
        hello = viewer_of(first)
        async with WsClient(server.host, hello) as second, WsClient(server.host, hello) as third:
            clients = [first, second, third]
            roles: dict[WsClient, list[str]] = {client: [] for client in clients}

            async def grasp(client: WsClient) -> None:
                for round_ in range(12):
                    await client.send(Claim() if round_ % 2 == 0 else Yield())
                    await asyncio.sleep(0.02)
                    assert sum(seat.role == "player" for seat in server.house.lobby._places) == 1
                await client.send(Ping(ts=0.0))
                message: Message | None = None
                while not isinstance(message, Pong):
                    message = await client.receive()
                    if isinstance(message, Seating):
                        roles[client].append(message.role)

            await asyncio.gather(*map(grasp, clients))
            assert any(one != other for taken in roles.values() for one, other in pairwise(taken))
            (hall,) = set(server.house.lobby._places.values())
            assert [seat for seat in server.house.lobby._places if seat.role == "player"] == [hall.player]


@pytest.mark.parametrize("kind", [Claim, Yield])
async def test_without_a_session_there_is_nothing_to_ask_for(kind: type[Message]) -> None:
    async with running() as server:
        client = WsClient(server.host)
        client.socket = await client._connecting
        await client.send(kind())
        error, _ = await client.end()
        assert error is not None and error.code == "message.order"
        await client.socket.close()
