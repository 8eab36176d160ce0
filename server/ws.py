"""The WebSocket edge: one connection pumps messages both ways and pictures out, as fast as its client shows them."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from fastapi import WebSocket, WebSocketDisconnect
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from .auth import AuthConfig, Refused, grant
from .farewell import ENDS, End, check_last, last_word, survived
from .lobby import Lobby
from .logs import current_session
from .mailbox import Messages, Pictures, Shot
from .metrics import Metrics
from .protocol import Ack, Frame, Goaway, Hello, ProtocolError, decode_from_client, encode
from .seat import Seat

GOING_AWAY, POLICY_VIOLATION, INTERNAL_ERROR, TRY_AGAIN = 1001, 1008, 1011, 1013  # RFC 6455 section 7.4 and IANA
LOST = 1006  # not on the wire: the same section's name for a connection that was not closed
FAREWELL_TIMEOUT = 1.0  # seconds
ABORT_AFTER = 2.0  # seconds that a client has to read the rest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WsConfig:
    """What a client must keep to, in seconds and counts."""

    hello_timeout: float = 5.0
    send_timeout: float = 3.0  # to take one message
    ack_timeout: float = 5.0  # to show a picture
    max_unacknowledged: int = 4  # pictures sent and not shown yet
    ping_timeout: float = 4.0  # to answer a ping, which comes as often


class AbortingWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's, which waits for a client to read all before it closes; one that stalls is aborted here."""

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self.loop.call_later(ABORT_AFTER, self.transport.abort)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()


class Window:
    """Pictures that were sent and not shown yet, and whether one more may go out."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._sent: deque[int] = deque()
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def room(self) -> None:
        await self._has_room.wait()

    def sent(self, frame: int) -> None:
        self._sent.append(frame)
        if len(self._sent) >= self._size:
            self._has_room.clear()

    def shown(self, frame: int) -> None:
        """The client shows this one, and needs none of those before it any more."""
        while self._sent and self._sent[0] <= frame:
            self._sent.popleft()
        if len(self._sent) < self._size:
            self._has_room.set()


class Connection:
    """One accepted WebSocket, from its hello to its end."""

    def __init__(self, socket: WebSocket, *, config: WsConfig, clock: Callable[[], float], metrics: Metrics) -> None:
        """`clock` is the engine's."""
        self._socket, self._config, self._clock, self._metrics = socket, config, clock, metrics
        self._window = Window(config.max_unacknowledged)

    async def run(self, lobby: Lobby, auth: AuthConfig) -> None:
        """Serve the client until it leaves, or has to."""
        if not await survived(self._run(lobby, auth), "a connection failed"):
            await self._close(INTERNAL_ERROR)

    async def _run(self, lobby: Lobby, auth: AuthConfig) -> None:
        try:
            hello = await self._hello()
            seat = await lobby.enter(hello, grant(hello.token, auth))
            try:
                with self._metrics.connections.labels("ws", seat.role).track_inprogress():
                    await self._serve(seat, hello)
            finally:
                await lobby.leave(seat)
        except WebSocketDisconnect as left:
            logger.info("a client left before its hello with %s", left.code)
        except ENDS as end:
            await self._say_farewell(end)

    async def _hello(self) -> Hello:
        try:
            async with asyncio.timeout(self._config.hello_timeout):
                message = decode_from_client(await self._receive())
        except TimeoutError as error:
            raise ProtocolError("message.order", "expected hello, got nothing") from error
        if not isinstance(message, Hello):
            raise ProtocolError("message.order", f"expected hello first, got {type(message).__name__.lower()}")
        return message

    async def _serve(self, seat: Seat, hello: Hello) -> None:
        current_session.set(seat.welcome.session)
        watcher = seat.watch(hello.codec)
        seat.greet()
        end: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send_messages(watcher.messages))
                tasks.create_task(self._send_pictures(watcher.pictures))
                tasks.create_task(self._obey(seat))
        except* WebSocketDisconnect:
            logger.info("a client left")
        except* TimeoutError:  # it reads nothing: no use in a farewell
            self._metrics.refusals.labels("client.stuck").inc()
        except* ENDS as ends:
            end = ends.exceptions[0]
        if end is not None:
            raise end

    async def _obey(self, seat: Seat) -> None:
        while True:
            message = seat.read(await self._receive())
            if isinstance(message, Ack):
                self._window.shown(message.frame)
            else:
                await seat.obey(message)

    async def _send_messages(self, messages: Messages) -> None:
        while True:
            message = await messages.get()
            check_last(message)
            await self._send(encode(message), within=self._config.send_timeout)

    async def _send_pictures(self, pictures: Pictures) -> None:
        while True:
            await self._room()
            shot = await pictures.get()
            self._window.sent(shot.receipt.frame)
            await self._send(encode(_frame(shot, t_sent=1000 * self._clock())), within=self._config.send_timeout)
            self._metrics.fan_out.observe(self._clock() - shot.made)
            self._metrics.sent_bytes.labels("ws").inc(len(shot.picture.data))

    async def _room(self) -> None:
        try:
            async with asyncio.timeout(self._config.ack_timeout):
                await self._window.room()
        except TimeoutError as error:
            message = f"expected an ack within {self._config.ack_timeout} s"
            raise Refused("client.stalled", message, status=408, retry_after=1.0) from error

    async def _receive(self) -> bytes:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        data: bytes | None = message.get("bytes")
        if data is None:
            raise ProtocolError("message.malformed", "expected a binary message, got text")
        return data

    async def _send(self, data: bytes, *, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                await self._socket.send_bytes(data)
        except RuntimeError as error:  # starlette's: uvicorn has closed it, as it does when a ping is not answered
            raise WebSocketDisconnect(LOST) from error

    async def _say_farewell(self, end: End) -> None:
        self._metrics.refusals.labels(end.code).inc()
        last = last_word(end)
        with suppress(TimeoutError, WebSocketDisconnect):
            await self._send(encode(last), within=FAREWELL_TIMEOUT)
        if isinstance(last, Goaway):
            await self._close(GOING_AWAY)
        else:
            await self._close(TRY_AGAIN if last.retry_after else POLICY_VIOLATION, last.code)

    async def _close(self, code: int, reason: str = "") -> None:
        with suppress(TimeoutError, WebSocketDisconnect, RuntimeError):  # the last as in `_send`
            async with asyncio.timeout(FAREWELL_TIMEOUT):
                await self._socket.close(code, reason)


def _frame(shot: Shot, *, t_sent: float) -> Frame:
    picture = shot.picture
    return Frame(
        receipt=msgspec.structs.replace(shot.receipt, t_sent=t_sent),
        codec=picture.codec,
        key=picture.key,
        width=picture.width,
        height=picture.height,
        data=picture.data,
    )
