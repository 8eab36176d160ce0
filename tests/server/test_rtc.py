"""WebRTC against a whole server: an aiortc client connects by WHEP, sees, steers, leaves or vanishes."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median
from typing import Any, TypeVar

import numpy as np
import pytest
from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import generate_certificate
from cryptography.hazmat.primitives.asymmetric import rsa

from server.aiortc_internals import accept_rsa
from server.broadcast import KEY_GAP
from server.protocol import (
    SUBPROTOCOL,
    Ack,
    Claim,
    Error,
    Frame,
    Hello,
    Input,
    Message,
    Ping,
    Pong,
    Recalled,
    Receipt,
    Reset,
    Seating,
    Status,
    Welcome,
    Yield,
    decode_from_server,
    encode,
)
from server.rtc import RtcConfig
from server.serve import ServeConfig
from tests.server.rtc_client import RtcClient
from tests.server.running import Answer, Running, fetch, running, stopped_at, until
from tests.server.ws_client import WsClient

logger = logging.getLogger("figures")  # seen with `-o log_cli=true`

HEIGHT, WIDTH = 16, 32  # of the tiny model's frames
LOCAL = RtcConfig(addresses=("127.0.0.1",))
Kind = TypeVar("Kind", bound=Message)


async def offer(server: Running, sdp: str, query: str = "") -> Answer:
    return await fetch(
        server.host, "POST", f"/whep?{query}", body=sdp.encode(), headers={"Content-Type": "application/sdp"}
    )


@asynccontextmanager
async def connected(server: Running, query: str = "", *, channels: bool = True) -> AsyncIterator[RtcClient]:
    async with RtcClient(channels=channels, protocol=SUBPROTOCOL) as client:
        answer = await offer(server, await client.offer(), query)
        assert answer.status == 201, answer.body
        client.location = answer.headers["location"]
        await client.accept(answer.body.decode())
        if channels:
            await client.opened()
        yield client


def heard(client: RtcClient, kind: type[Kind]) -> list[Kind]:
    return [m for m in map(decode_from_server, client.heard.messages) if isinstance(m, kind)]


def say(channel: Any, message: Message) -> None:
    channel.send(encode(message))


async def test_a_player_sees_steers_and_gets_receipts_by_rtp_timestamp() -> None:
    async with running(ServeConfig(rtc=LOCAL)) as server, connected(server, "seed=3") as client:
        frame = await client.frame()
        assert (frame.width, frame.height) == (2 * WIDTH, 2 * HEIGHT)
        still = (await client.frame()).to_ndarray(format="rgb24")
        say(client.input, Input(seq=4, ts=88.0, keys=["ArrowRight"]))
        await until(lambda: any(receipt.applied_seq == 4 for receipt in heard(client, Receipt)))
        moved = [(await client.frame()).to_ndarray(format="rgb24") for _ in range(20)][-1]
        assert np.abs(moved.astype(int) - still).mean() > 5
        (welcome,) = heard(client, Welcome)
        assert (welcome.role, welcome.model, welcome.width) == ("player", "tiny", WIDTH)
        receipts = heard(client, Receipt)
        answered = next(receipt for receipt in receipts if receipt.applied_seq == 4)
        assert answered.client_ts == 88.0
        assert answered.t_recv <= answered.t_applied <= answered.t_sent < answered.t_recv + 5000
        stamps = {receipt.rtp for receipt in receipts}
        assert len(stamps) == len(receipts)
        assert len(stamps & set(client.heard.timestamps)) > 0.9 * len(stamps)


async def test_messages_are_obeyed_and_answered_on_events() -> None:
    async with running(ServeConfig(rtc=LOCAL)) as server, connected(server, "seed=3") as client:
        before = (await client.frame()).to_ndarray(format="rgb24").astype(int)
        say(client.events, Ping(ts=1.25))
        say(client.events, Reset(seed=44))
        await until(lambda: heard(client, Pong) and heard(client, Status) and heard(client, Recalled))
        assert heard(client, Pong) == [Pong(ts=1.25)]
        assert heard(client, Status)[0].viewers == 0
        after = [(await client.frame()).to_ndarray(format="rgb24") for _ in range(10)][-1]
        assert np.abs(after - before).mean() > 5


@pytest.mark.parametrize(
    ("message", "code"),
    [(b"\xff", "message.malformed"), (encode(Ack(frame=1)), "message.order"), ("a", "message.malformed")],
)
async def test_what_breaks_the_protocol_ends_the_connection(message: bytes | str, code: str) -> None:
    async with running(ServeConfig(rtc=LOCAL)) as server, connected(server) as client:
        client.events.send(message)
        await until(lambda: client.peer.connectionState == "closed")
        assert heard(client, Error)[-1].code == code


async def test_channels_of_another_protocol_are_closed() -> None:
    async with running(ServeConfig(rtc=LOCAL)) as server, connected(server) as client:
        other = client.peer.createDataChannel("input", protocol="other")
        await until(lambda: other.readyState == "closed")
        await client.frame()


async def test_a_standard_player_watches_without_channels() -> None:
    async with running(ServeConfig(rtc=LOCAL)) as server, WsClient(server.host) as player:
        session = player.welcome.session
        async with connected(server, f"session={session}&role=viewer", channels=False) as viewer:
            assert (await viewer.frame()).width == 2 * WIDTH
            await until(lambda: any_viewers(server))
        await player.socket.close()


def any_viewers(server: Running) -> bool:
    return b'rewander_connections{role="viewer",transport="rtc"} 1.0' in server.house.render_metrics()


async def test_a_player_with_an_rsa_certificate_may_watch() -> None:
    async with (
        running(ServeConfig(rtc=LOCAL)) as server,
        WsClient(server.host) as player,
        RtcClient(channels=False) as viewer,
    ):
        key = rsa.generate_private_key(65_537, 2048)
        viewer.peer._RTCPeerConnection__certificates[:] = [RTCCertificate(key, generate_certificate(key))]
        accept_rsa(viewer.peer)  # as the DTLS server it must be able to itself
        answer = await offer(server, await viewer.offer(), f"session={player.welcome.session}&role=viewer")
        assert b"a=setup:active" in answer.body
        await viewer.accept(answer.body.decode())
        await viewer.frame()


@pytest.mark.slow
async def test_one_who_joins_sees_a_picture_within_half_a_second() -> None:
    took: dict[str, list[float]] = {"WHEP": [], "WebSocket": []}
    clock = asyncio.get_running_loop().time
    async with running(ServeConfig(rtc=LOCAL)) as server, WsClient(server.host) as player:
        watching = asyncio.ensure_future(player.frames(10**9))
        session = player.welcome.session
        for _ in range(10):
            began = clock()
            async with connected(server, f"session={session}&role=viewer", channels=False) as viewer:
                await viewer.frame()
                took["WHEP"].append(1000 * (clock() - began))
            began = clock()
            async with WsClient(server.host, Hello(session=session, role="viewer", codec="h264")) as viewer:
                assert (await viewer.next(Frame)).key
                took["WebSocket"].append(1000 * (clock() - began))
        watching.cancel()
    for way, times in took.items():
        logger.warning("%s: picture after %.0f ms, %.0f at most", way, median(times), max(times))
        assert median(times) < 500


async def test_viewers_may_not_steer() -> None:
    async with running(ServeConfig(rtc=LOCAL)) as server, WsClient(server.host) as player:
        async with connected(server, f"session={player.welcome.session}&role=viewer") as viewer:
            await viewer.frame()
            say(viewer.input, Input(seq=1, keys=["KeyW"]))
            await until(lambda: viewer.peer.connectionState == "closed")
            assert heard(viewer, Error)[-1].code == "role.viewer"
        await player.next(Frame)


async def test_everyone_gets_the_same_encoding_and_key_frames_are_shared() -> None:
    async with running(ServeConfig(rtc=LOCAL)) as server, connected(server) as player:
        await player.frame()
        metrics = server.house.metrics
        session = heard(player, Welcome)[0].session
        async with WsClient(server.host, Hello(session=session, role="viewer", codec="h264")) as viewer:
            first = await viewer.next(Frame)
            assert first.key
            keys, began = metrics.key_frames._value.get(), asyncio.get_running_loop().time()
            for _ in range(10):
                await player.ask_for_key()
            await until(lambda: metrics.key_frames._value.get() > keys)
            await viewer.frames(10)
            took = asyncio.get_running_loop().time() - began
            assert metrics.key_frames._value.get() - keys <= 1 + took / KEY_GAP
            assert metrics.encode._sum.get() > 0
            frames = metrics.frames._value.get()
            assert frames >= len(heard(player, Receipt))


async def test_deleting_ends_it_and_the_place_is_kept() -> None:
    async with running(ServeConfig(rtc=LOCAL)) as server, connected(server) as client:
        await client.frame()
        assert (await fetch(server.host, "DELETE", client.location)).status == 200
        await until(lambda: client.peer.connectionState == "closed")
        await until(lambda: not server.house.peers._peers)
        assert (await fetch(server.host, "DELETE", client.location)).status == 404
        resume = heard(client, Welcome)[0].resume
        async with WsClient(server.host, Hello(resume=resume, codec="raw")) as again:
            assert again.welcome.session == heard(client, Welcome)[0].session


async def test_a_player_who_vanished_comes_back_at_the_same_frame() -> None:
    config = ServeConfig(rtc=RtcConfig(addresses=("127.0.0.1",), silence_timeout=0.5))
    async with running(config) as server:
        async with connected(server, "seed=3") as client:
            await client.frame()
            say(client.input, Input(seq=1, keys=["ArrowRight"]))
            await until(lambda: heard(client, Receipt) and heard(client, Receipt)[-1].applied_seq == 1)
            for connection in client.connections():
                for protocol in connection._protocols:
                    protocol.transport.abort()
            stopped = await stopped_at(server)
        assert heard(client, Receipt)[-1].frame <= stopped.index
        async with connected(server, f"resume={heard(client, Welcome)[0].resume}") as again:
            await again.frame()
            await until(lambda: len(heard(again, Receipt)) > 3)
            assert heard(again, Welcome)[0].session == heard(client, Welcome)[0].session
            assert [receipt.frame for receipt in heard(again, Receipt)][0] == stopped.index


async def test_the_world_of_a_player_waits_for_its_channels() -> None:
    async with running(ServeConfig(rtc=LOCAL)) as server, RtcClient(protocol="another") as client:
        answer = await offer(server, await client.offer())
        await client.accept(answer.body.decode())
        await until(lambda: any(peer.has_connected for peer in server.house.peers._peers.values()))
        assert server.house.engine.stats().num_sections == 0
        await client.frame()  # but not for ever


async def test_offers_that_nobody_follows_up_leave_nothing_behind() -> None:
    config = ServeConfig(rtc=RtcConfig(addresses=("127.0.0.1",), handshake_timeout=0.3, max_handshakes=3))
    async with running(config) as server, RtcClient() as client:
        sdp = await client.offer()
        answers = [await offer(server, sdp) for _ in range(4)]
        assert [answer.status for answer in answers] == [201, 201, 201, 503]
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert len(server.house.engine.handles) == 3
        await until(lambda: not server.house.peers._peers)
        await until(lambda: not server.house.engine.handles)  # opened for nothing


async def test_a_vanished_peer_is_noticed_in_time() -> None:
    config = ServeConfig(rtc=RtcConfig(addresses=("127.0.0.1",), silence_timeout=1.0))
    async with running(config) as server, connected(server) as client:
        await client.frame()
        await asyncio.sleep(1.2)
        assert server.house.peers._peers  # its reports keep it
        for connection in client.connections():
            for protocol in connection._protocols:
                protocol.transport.abort()
        began = asyncio.get_running_loop().time()
        await until(lambda: not server.house.peers._peers)
        assert 0.5 < asyncio.get_running_loop().time() - began < 5.0


async def test_the_end_of_a_session_ends_its_peers() -> None:
    async with running(ServeConfig(rtc=LOCAL)) as server, connected(server) as client:
        await client.frame()
        (handle,) = server.house.engine.handles
        await handle.close("session.closed", "the end")
        await until(lambda: client.peer.connectionState == "closed")
        assert heard(client, Error)[-1].code == "session.closed"


async def test_the_controls_go_over_from_a_websocket_to_webrtc() -> None:
    async with running(ServeConfig(rtc=LOCAL)) as server, WsClient(server.host) as old:
        async with connected(server, f"session={old.welcome.session}&role=viewer") as new:
            say(new.events, Claim())
            while (await old.next(Seating)).num_asking == 0:
                continue
            await old.send(Yield())
            await until(lambda: heard(new, Seating) and heard(new, Seating)[-1].role == "player")
            assert heard(new, Seating)[-1].resume
            say(new.input, Input(seq=4, keys=["KeyW"]))
            while (await old.next(Frame)).receipt.applied_seq != 4:
                continue
