"""Sixteen players and 64 viewers at once, by WebSocket and WebRTC in equal parts, and visitors who come and go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random
from typing import Any

from server.protocol import SUBPROTOCOL, Frame, Hello, Ping, Welcome, decode_from_server, encode
from tests.client_demo.watchers import by_webrtc, by_websocket
from tests.server.rtc_client import RtcClient
from tests.server.running import fetch, until
from tests.server.ws_client import WsClient

SDP = {"Content-Type": "application/sdp"}
PING_EVERY = 1.0  # seconds


class Crowd:
    """Everyone stays until the block's end; whoever is thrown out ends it with an error."""

    def __init__(self, host: str, stack: AsyncExitStack, tasks: asyncio.TaskGroup) -> None:
        self.sessions: list[str] = []
        self._host, self._stack, self._tasks = host, stack, tasks
        self._reading: list[asyncio.Task[None]] = []

    async def add_player(self, *, by_rtc: bool) -> None:
        self.sessions.append(await (self._rtc_player() if by_rtc else self._ws_client(Hello(codec="h264"))))

    async def add_viewer(self, session: str, *, by_rtc: bool) -> None:
        if by_rtc:
            client = await self._stack.enter_async_context(RtcClient(channels=False))
            await by_webrtc(client, self._host, session)
            self._reading.append(self._tasks.create_task(_forget(client)))
        else:
            await self._ws_client(Hello(session=session, role="viewer", codec="h264"))

    def dismiss(self) -> None:
        for task in self._reading:
            task.cancel()

    async def _ws_client(self, hello: Hello) -> str:
        client = await self._stack.enter_async_context(WsClient(self._host, hello))
        seen = asyncio.Event()
        self._reading.append(self._tasks.create_task(by_websocket(client, seen)))
        await seen.wait()
        return client.welcome.session

    async def _rtc_player(self) -> str:
        client = await self._stack.enter_async_context(RtcClient(protocol=SUBPROTOCOL))
        welcome = await connect(client, self._host, "")
        self._reading.append(self._tasks.create_task(_ping(client)))
        return welcome.session


@asynccontextmanager
async def crowd(host: str, *, players: int = 16, viewers: int = 64) -> AsyncIterator[Crowd]:
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        everyone = Crowd(host, stack, tasks)
        for number in range(players):
            await everyone.add_player(by_rtc=number % 2 == 0)
        for number in range(viewers):
            await everyone.add_viewer(everyone.sessions[number % players], by_rtc=number // players % 2 == 0)
        try:
            yield everyone
        finally:
            everyone.dismiss()


async def connect(client: RtcClient, host: str, query: str) -> Welcome:
    """A player by WebRTC that decodes nothing, as soon as it is welcome."""

    async def take(*_: Any, **__: Any) -> None: ...

    answer = await fetch(host, "POST", f"/whep?{query}", body=(await client.offer()).encode(), headers=SDP)
    assert answer.status == 201, answer.body
    client.location = answer.headers["location"]
    await client.accept(answer.body.decode())
    client._receiver._handle_rtp_packet = take
    await client.opened()
    welcomes: list[Welcome] = []

    def is_welcome() -> bool:
        said = map(decode_from_server, client.heard.messages)
        welcomes.extend(message for message in said if isinstance(message, Welcome))
        return bool(welcomes)

    await until(is_welcome)
    return welcomes[0]


async def visit(host: str, session: str, resume: str, random: Random) -> None:
    """One connect and disconnect: as a viewer of `session`, or as the player of the world of `resume`."""
    match random.randrange(4):
        case 0:
            async with WsClient(host, Hello(session=session, role="viewer", codec="jpeg")) as viewer:
                await viewer.next(Frame)
        case 1:
            async with RtcClient(channels=False) as viewer:
                await by_webrtc(viewer, host, session)
        case 2:
            async with WsClient(host, Hello(resume=resume)) as player:
                await player.next(Frame)
                if random.random() < 0.5:
                    player.socket.transport.abort()
        case _:
            async with RtcClient(protocol=SUBPROTOCOL) as player:
                await connect(player, host, f"resume={resume}")
                if random.random() < 0.5:
                    await fetch(host, "DELETE", player.location)


async def _ping(client: RtcClient) -> None:
    while True:
        with suppress(ConnectionError):
            client.events.send(encode(Ping(ts=1.0)))
        await _pause(client)


async def _forget(client: RtcClient) -> None:
    while True:
        await _pause(client)


async def _pause(client: RtcClient) -> None:
    """What a client of the tests has heard grows without end."""
    await asyncio.sleep(PING_EVERY)
    client.heard.messages.clear()
    client.heard.elements.clear()
