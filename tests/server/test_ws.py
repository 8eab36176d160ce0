"""WebSockets against a whole server: what clients get, what they may not do, and what the slow lose."""

import asyncio
import socket
from io import BytesIO

import av
import numpy as np
import pytest
from PIL import Image
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from server.limits import LimitConfig
from server.protocol import (
    MAX_MESSAGE_BYTES,
    SUBPROTOCOL,
    Ack,
    Error,
    Frame,
    Hello,
    Input,
    Latency,
    Ping,
    Pong,
    Prompt,
    Reset,
    Settings,
    Status,
    encode,
)
from server.serve import ServeConfig
from server.ws import WsConfig
from tests.server.running import running, stopped_at, until
from tests.server.ws_client import WsClient, refused

HEIGHT, WIDTH = 16, 32  # of the tiny model's frames


def pixels(frame: Frame) -> np.ndarray:
    return np.frombuffer(frame.data, np.uint8).reshape(frame.height, frame.width, 3)


async def test_raw_frames_show_the_world_and_answer_inputs() -> None:
    async with running() as server, WsClient(server.host, Hello(codec="raw", seed=3)) as client:
        assert (client.welcome.width, client.welcome.height, client.welcome.model) == (WIDTH, HEIGHT, "tiny")
        assert [axis.name for axis in client.welcome.axes] == ["turn", "climb"]
        still = await client.frames(3)
        assert np.array_equal(pixels(still[1]), pixels(still[2]))
        await client.send(Input(seq=7, ts=123.0, keys=["ArrowRight"]))
        moved = [frame for frame in await client.frames(20) if frame.receipt.applied_seq == 7]
        assert moved and not np.array_equal(pixels(moved[-1]), pixels(still[-1]))
        receipt = moved[0].receipt
        assert receipt.client_ts == 123.0
        assert receipt.t_recv <= receipt.t_applied <= receipt.t_sent < receipt.t_recv + 5000
        indices = [frame.receipt.frame for frame in still + moved]
        assert indices == sorted(set(indices))


async def test_the_same_frame_in_each_codec() -> None:
    async with running() as server, WsClient(server.host, Hello(codec="raw", seed=3)) as player:
        hellos = [Hello(session=player.welcome.session, role="viewer", codec=codec) for codec in ("h264", "jpeg")]
        async with WsClient(server.host, hellos[0]) as video, WsClient(server.host, hellos[1]) as jpeg:
            reference = pixels((await player.frames(3))[-1]).astype(int)  # nobody steers: the view stands still
            first = await video.next(Frame)
            assert first.key and (first.width, first.height) == (2 * WIDTH, 2 * HEIGHT)
            decoder = av.CodecContext.create("h264", "r")
            stream = [first.data, *(frame.data for frame in await video.frames(4))]
            shown = [f for data in stream for f in decoder.decode(av.Packet(data))] + decoder.decode(None)
            assert len(shown) == 5
            small = Image.fromarray(shown[-1].to_ndarray(format="rgb24")).resize((WIDTH, HEIGHT), Image.Resampling.BOX)
            assert np.abs(np.asarray(small) - reference).mean() < 12
            image = np.asarray(Image.open(BytesIO((await jpeg.next(Frame)).data)))
            assert np.abs(image - reference).mean() < 6


async def test_ping_settings_prompt_and_reset_are_obeyed() -> None:
    async with running() as server, WsClient(server.host) as client:
        await client.send(Ping(ts=5.5))
        assert await client.next(Pong) == Pong(ts=5.5)
        before = pixels(await client.next(Frame))
        await client.send(Settings(recall=False))
        await client.send(Prompt(text="red"))
        await client.send(Reset(seed=99))
        async with asyncio.timeout(10):
            while np.array_equal(pixels(await client.next(Frame)), before):
                continue
        assert not (await client.next(Status)).recall


async def test_what_players_measure_is_in_the_figures() -> None:
    async with running() as server, WsClient(server.host) as player:
        await player.send(Latency(action_to_photon=[20.0, 40.0]))
        await player.send(Ping(ts=1.0))
        await player.next(Pong)
        measured = server.house.metrics.action_to_photon
        assert measured._sum.get() == pytest.approx(0.06)
        hello = Hello(session=player.welcome.session, role="viewer", codec="raw")
        async with WsClient(server.host, hello) as viewer:
            await viewer.send(Latency(action_to_photon=[1.0]))
            error, _ = await viewer.end()
            assert error is not None and error.code == "role.viewer"
        assert measured._sum.get() == pytest.approx(0.06)


async def test_a_start_image_is_taken_and_a_bad_one_is_told_without_an_end() -> None:
    async with running() as server, WsClient(server.host) as client:
        buffer = BytesIO()
        Image.new("RGB", (64, 64), (250, 10, 10)).save(buffer, "PNG")
        await client.send(Reset(image=buffer.getvalue()))
        async with asyncio.timeout(10):
            while pixels(await client.next(Frame))[..., 0].mean() < 150:
                continue
        await client.send(Reset(image=b"no image"))
        assert (await client.next(Error)).code == "input.image"
        await client.send(Input(seq=1, axes={"fly": 1.0}))
        assert (await client.next(Error)).code == "input.axis"
        await client.next(Frame)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\xff\xff", "message.malformed"),
        (encode(Ping(ts=1.0))[:-1], "message.malformed"),
        (encode(Hello()), "message.order"),
        ("text", "message.malformed"),
    ],
)
async def test_what_breaks_the_protocol_ends_the_connection(message: bytes | str, code: str) -> None:
    async with running() as server, WsClient(server.host) as client:
        await client.socket.send(message)
        error, close_code = await client.end()
        assert error is not None and (error.code, close_code) == (code, 1008)


async def test_too_large_and_too_many_messages_end_the_connection() -> None:
    async with running() as server:
        async with WsClient(server.host) as client:
            await client.socket.send(b"x" * (MAX_MESSAGE_BYTES + 1))
            assert (await client.end())[1] == 1009
        async with WsClient(server.host) as client:
            for seq in range(400):
                await client.send(Input(seq=seq))
            error, _ = await client.end()
            assert error is not None and error.code == "limit.messages"


async def test_who_says_no_hello_is_turned_away() -> None:
    async with running(ServeConfig(ws=WsConfig(hello_timeout=0.1))) as server:
        async with connect(f"ws://{server.host}/ws", subprotocols=[SUBPROTOCOL]) as client:
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await client.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.reason == "message.order"


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({}, 400),
        ({"subprotocols": ["rewander.v9.msgpack"]}, 400),
        ({"subprotocols": [SUBPROTOCOL], "origin": "http://evil.example"}, 403),
    ],
)
async def test_other_subprotocols_and_origins_are_refused(options: dict[str, object], status: int) -> None:
    async with running() as server:
        with pytest.raises(InvalidStatus) as refusal:
            async with connect(f"ws://{server.host}/ws", **options):
                pass
        assert refusal.value.response.status_code == status
        assert b"expected" in refusal.value.response.body
        async with WsClient(server.host, origin=f"http://{server.host}") as client:
            await client.next(Frame)


async def test_one_connection_too_many_is_told_when_to_come_back() -> None:
    async with running(ServeConfig(limits=LimitConfig(per_address=1))) as server, WsClient(server.host):
        with pytest.raises(InvalidStatus) as refusal:
            async with connect(f"ws://{server.host}/ws", subprotocols=[SUBPROTOCOL]):
                pass
        assert refusal.value.response.status_code == 429
        assert int(refusal.value.response.headers["Retry-After"]) >= 1


async def test_viewers_watch_and_may_not_steer() -> None:
    async with running() as server, WsClient(server.host) as player:
        assert (await refused(server.host, Hello(session="nowhere", role="viewer")))[0].code == "session.unknown"
        assert (await refused(server.host, Hello(session=player.welcome.session)))[0].code == "session.taken"
        hello = Hello(session=player.welcome.session, role="viewer", codec="raw")
        async with WsClient(server.host, hello) as viewer:
            assert viewer.welcome.resume == ""
            await viewer.next(Frame)
            await viewer.send(Input(seq=1, keys=["KeyW"]))
            error, _ = await viewer.end()
            assert error is not None and error.code == "role.viewer"
        await player.next(Frame)


async def test_a_player_comes_back_to_the_same_world_at_the_same_frame() -> None:
    async with running() as server:
        async with WsClient(server.host, Hello(codec="raw", seed=1)) as first:
            await first.send(Input(seq=1_000_000, keys=["ArrowRight"]))
            last = (await first.frames(20))[-1]
        stopped = await stopped_at(server)
        assert last.receipt.frame <= stopped.index
        async with WsClient(server.host, Hello(codec="raw", resume=first.welcome.resume)) as second:
            assert second.welcome.session == first.welcome.session
            back = await second.next(Frame)
            assert back.receipt.frame == stopped.index and np.array_equal(pixels(back), stopped.frame)
            assert (await second.next(Frame)).receipt.frame > stopped.index
            await second.send(Input(seq=0, keys=["KeyW"]))  # a new connection counts anew
            while (await second.next(Frame)).receipt.applied_seq != 0:
                pass
        ticket = first.welcome.resume  # its last character has bits that mean nothing
        forged = ticket[:-2] + ("x" if ticket[-2] != "x" else "y") + ticket[-1]
        assert (await refused(server.host, Hello(resume=forged)))[0].code == "session.ticket"


async def test_the_player_who_comes_back_elsewhere_takes_the_seat() -> None:
    async with running() as server, WsClient(server.host) as first:
        async with WsClient(server.host, Hello(codec="raw", resume=first.welcome.resume)) as second:
            error, _ = await first.end()
            assert error is not None and error.code == "session.moved"
            await second.next(Frame)


async def test_a_client_that_shows_nothing_is_let_go_and_slows_nobody() -> None:
    config = ServeConfig(ws=WsConfig(ack_timeout=0.4, max_unacknowledged=2))
    async with running(config) as server, WsClient(server.host) as player:
        hello = Hello(session=player.welcome.session, role="viewer", codec="raw")
        async with WsClient(server.host, hello) as idle:
            indices = [frame.receipt.frame for frame in await player.frames(30)]
            assert indices[-1] - indices[0] < 3 * 30  # it lost few, and nobody waited for the idle one
            received = 0
            while not isinstance(message := await idle.receive(), Error):
                received += isinstance(message, Frame)
            assert (message.code, received) == ("client.stalled", 2)
            assert message.retry_after > 0


async def test_a_late_ack_opens_the_window_at_a_key_frame() -> None:
    async with running(ServeConfig(ws=WsConfig(max_unacknowledged=2))) as server:
        async with WsClient(server.host, Hello(codec="h264")) as client:
            sent = []
            while len(sent) < 2:
                message = await client.receive()
                sent += [message] if isinstance(message, Frame) else []
            (handle,) = server.house.engine.handles
            feed = handle._line.link.feed
            await until(lambda: feed.newest.index > sent[-1].receipt.frame + 12)  # its mailbox overflows
            await client.send(Ack(frame=sent[-1].receipt.frame))
            after = await client.next(Frame)
            assert after.key and after.receipt.frame > sent[-1].receipt.frame + 4


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    """Its socket is full, so that not even a farewell goes out."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    config = ServeConfig(ws=WsConfig(send_timeout=0.3, max_unacknowledged=10_000))
    async with running(config, sockets=[listener]) as server:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(listener.getsockname())
        narrow.setblocking(False)
        client = await connect(f"ws://{server.host}/ws", subprotocols=[SUBPROTOCOL], sock=narrow, ping_interval=None)
        await client.send(encode(Hello(codec="raw")))
        client.transport.pause_reading()
        connections = server.server.server_state.connections
        await until(lambda: connections)
        await until(lambda: not connections)
        client.transport.abort()


async def test_a_client_that_answers_no_ping_has_left(caplog: pytest.LogCaptureFixture) -> None:
    """Pictures are sent all the while, also into a connection that was closed for it."""
    patient = WsConfig(ping_timeout=0.3, ack_timeout=30.0, max_unacknowledged=10_000)
    async with running(ServeConfig(ws=patient)) as server:
        async with WsClient(server.host, Hello(codec="raw")) as client:
            await client.next(Frame)
            client.socket.transport.pause_reading()
            await until(lambda: not server.house.lobby._places)
            client.socket.transport.abort()
    assert "failed" not in caplog.text and "Exception" not in caplog.text
