"""A WebSocket client as a custom client would be, with what tests ask of it."""

import asyncio
from types import TracebackType
from typing import Any, Self, TypeVar

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from server.protocol import SUBPROTOCOL, Ack, Error, Frame, Hello, Message, Welcome, decode_from_server, encode

PATIENCE = 60.0  # seconds: of a machine that is busy with other things
Kind = TypeVar("Kind", bound=Message)


class WsClient:
    """Says hello on entering and keeps the welcome; acks every frame it is asked for."""

    def __init__(self, host: str, hello: Hello | None = None, **options: Any) -> None:
        options |= {"compression": None, "ping_interval": None, "open_timeout": PATIENCE}
        self._connecting = connect(f"ws://{host}/ws", subprotocols=[SUBPROTOCOL], **options)
        self._hello = hello or Hello(codec="raw")
        self.welcome = Welcome("", "", "player", "", 0, 0, 0.0, "", 0, 0, [])

    async def __aenter__(self) -> Self:
        self.socket = await self._connecting
        await self.send(self._hello)
        self.welcome = await self.next(Welcome)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.socket.close()

    async def send(self, message: Message) -> None:
        await self.socket.send(encode(message))

    async def receive(self) -> Message:
        async with asyncio.timeout(PATIENCE):
            data = await self.socket.recv()
        assert isinstance(data, bytes)
        return decode_from_server(data)

    async def next(self, kind: type[Kind]) -> Kind:
        """The next message of a kind; frames on the way are acked."""
        while True:
            message = await self.receive()
            if isinstance(message, Frame):
                await self.send(Ack(frame=message.receipt.frame))
            if isinstance(message, kind):
                return message

    async def frames(self, count: int) -> list[Frame]:
        return [await self.next(Frame) for _ in range(count)]

    async def end(self) -> tuple[Error | None, int]:
        """The last error that comes, and the code that the server closes with."""
        error = None
        try:
            while True:
                message = await self.receive()
                error = message if isinstance(message, Error) else error
        except ConnectionClosed as closed:
            return error, closed.rcvd.code if closed.rcvd else 1006


async def refused(host: str, hello: Hello) -> tuple[Error, int]:
    """How the server turns a hello away."""
    client = WsClient(host, hello)
    client.socket = await client._connecting
    await client.send(hello)
    error, code = await client.end()
    await client.socket.close()
    assert error is not None
    return error, code
