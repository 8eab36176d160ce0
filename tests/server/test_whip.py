"""A session published to a real WHIP endpoint: what arrives, what happens when either side ends, and coming back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.aiortc_internals import PLAYOUT_DELAY
from server.auth import Refused
from server.protocol import Frame
from server.rtc import RtcConfig
from server.serve import ServeConfig
from server.whip import backoff, publish
from server.whip_http import WhipConfig
from tests.server.running import Running, running, until
from tests.server.whip_receiver import Receiver, receiving
from tests.server.ws_client import WsClient

LOCAL = ServeConfig(rtc=RtcConfig(addresses=("127.0.0.1",), viewer_silence_timeout=2.0))


def publishing(server: Running, session: str, receiver: Receiver, *, path: str = "/whip/room") -> asyncio.Task[None]:
    house = server.house
    config = WhipConfig(receiver.url.replace("/whip/room", path), token="key", first_wait=0.05)
    work = publish(session, config, lobby=house.lobby, rtc=house.config.rtc, metrics=house.metrics)
    return asyncio.ensure_future(work)


@asynccontextmanager
async def published() -> AsyncIterator[tuple[Running, WsClient, Receiver, Any]]:
    """A server with a player whose session goes to a receiver, and the task that publishes it."""
    async with receiving() as receiver, running(LOCAL) as server, WsClient(server.host) as player:
        task = publishing(server, player.welcome.session, receiver)
        try:
            await until(lambda: receiver.streams and receiver.streams[0].track)
            yield server, player, receiver, task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_what_is_encoded_arrives_with_its_key_frame_and_playout_delay() -> None:
    async with published() as (server, player, receiver, _):
        (stream,) = receiver.streams
        frames = [await stream.frame() for _ in range(10)]
        assert {(frame.width, frame.height) for frame in frames} == {(64, 32)}
        assert frames[-1].pts > frames[0].pts
        assert "m=video" in stream.offer and "m=application" not in stream.offer
        assert "a=sendonly" in stream.offer and "a=setup:actpass" in stream.offer and "VP8" not in stream.offer
        assert PLAYOUT_DELAY in stream.offer
        assert b'rewander_connections{role="viewer",transport="whip"} 1.0' in server.house.render_metrics()
        assert server.house.metrics.sent_bytes.labels("whip")._value.get() > 0
        await player.next(Frame)


async def test_the_end_of_the_session_deletes_the_stream() -> None:
    async with published() as (server, _, receiver, task):
        await receiver.streams[0].frame()
        (handle,) = server.house.engine.handles
        await handle.close("session.closed", "the end")
        async with asyncio.timeout(20):
            await task
        assert receiver.deleted == ["/stream/0"]


async def test_whoever_stops_it_deletes_the_stream_and_gives_the_seat_up() -> None:
    async with published() as (server, player, receiver, task):
        await receiver.streams[0].frame()
        assert len(server.house.lobby._places) == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert receiver.deleted == ["/stream/0"]
        assert len(server.house.lobby._places) == 1
        await player.next(Frame)


@pytest.mark.parametrize("gracefully", [True, False])
async def test_a_stream_that_the_sfu_loses_is_published_again(gracefully: bool) -> None:
    async with published() as (server, player, receiver, _):
        first = receiver.streams[0]
        await first.frame()
        if gracefully:
            await first.peer.close()
        else:
            for protocol in first.peer.getTransceivers()[0].receiver.transport.transport._connection._protocols:
                protocol.transport.abort()
        await until(lambda: len(receiver.streams) == 2 and receiver.streams[1].track)
        await receiver.streams[1].frame()
        assert receiver.deleted[0] == "/stream/0"
        assert server.house.metrics.refusals.labels("whip.failed")._value.get() == 1
        await player.next(Frame)


async def test_refusals_are_waited_out() -> None:
    async with receiving(refusals=[503, 404, 500]) as receiver, running(LOCAL) as server:
        async with WsClient(server.host) as player:
            task = publishing(server, player.welcome.session, receiver, path="/moved")
            await until(lambda: receiver.streams and receiver.streams[0].track)
            await receiver.streams[0].frame()
            assert server.house.metrics.refusals.labels("whip.failed")._value.get() == 3
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_a_session_that_does_not_live_is_refused() -> None:
    async with receiving() as receiver, running(LOCAL) as server:
        with pytest.raises(Refused, match="expected a session that lives"):
            await publishing(server, "nowhere", receiver)
        assert receiver.seen == []


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_double_up_to_the_longest_and_are_never_none(failures: int, jitter: float) -> None:
    config = WhipConfig("http://host", first_wait=1.0, longest_wait=30.0)
    wait = backoff(failures, config=config, jitter=jitter)
    assert min(30.0, 2.0 ** min(failures, 9)) / 2 <= wait <= min(30.0, 2.0 ** min(failures, 9))
    assert backoff(failures + 1, config=config, jitter=jitter) >= wait
