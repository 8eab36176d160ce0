"""A Python client: connect, send controls, get frames as numpy arrays.

    async with Client("ws://127.0.0.1:8000/ws", codec="jpeg", seed=7) as world:
        await world.steer(keys=["KeyW"])
        async for frame in world.frames():
            show(frame.pixels)

It is written from the wire protocol alone. When the connection breaks it comes back to the same world.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import msgpack
import numpy as np
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from .decoders import Decoder, decoder
from .latencies import Latencies

SUBPROTOCOL = websockets.Subprotocol("rewander.v1.msgpack")
RESUME_SECONDS = 60.0  # as long as the server keeps a player's place
PAUSES = (0.1, 0.25, 0.5, 1.0, 2.0)  # seconds between attempts to come back; the last one repeats
MAX_FRAME_BYTES = 16 * 2**20  # raw pictures are large

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where to go and what to see there: the fields of `hello`."""

    session: str = ""  # of someone else; empty for a world of one's own
    token: str = ""
    role: str = "player"
    codec: str = "raw"
    seed: int | None = None
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Which input a frame answers. Times are milliseconds: `client_ts` on our clock, `t_*` on the server's."""

    frame: int
    applied_seq: int
    client_ts: float
    t_recv: float
    t_applied: float
    t_sent: float


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of the world, (H, W, 3) uint8 RGB, and its receipt."""

    pixels: np.ndarray
    receipt: Receipt


class ServerError(Exception):
    """The server refused something; `retry_after` seconds above 0 say when it may be asked again.

    On a full server there is a `place` in its queue, from 1, kept by coming back in time with `waiting`.
    """

    def __init__(self, message: Message) -> None:
        super().__init__(f"{message['code']}: {message['message']}")
        self.code: str = message["code"]
        self.retry_after: float = message.get("retry_after", 0.0)
        self.place: int = message.get("place", 0)
        self.waiting: str = message.get("waiting", "")


class Client:
    """One session over a WebSocket. `welcome`, `seating`, `status`, `recalled` and `progress` hold the newest of each.

    `setback` is the newest `error` that says that the model failed and the world was set back a section, and went on.
    Frames are read by `frame` and `frames` only; whoever does not read for some seconds is disconnected.
    """

    def __init__(
        self,
        url: str,
        *,
        patience: float = RESUME_SECONDS,
        queued: Callable[[int], None] | None = None,
        **place: Any,
    ) -> None:
        """`url` ends in `/ws`; `place` has the fields of `Place`; a lost server is called for `patience` seconds.

        With `queued` it waits in a full server's queue, and tells `queued` its place there, from 1.
        """
        self.url = url
        self.patience = patience
        self._queued, self._waiting = queued, ""
        self.place = Place(**place)
        self.welcome: Message = {}
        self.seating: Message = {}
        self.status: Message = {}
        self.recalled: Message = {}
        self.progress: Message = {}
        self.setback: Message = {}
        self._socket: ClientConnection
        self._decode: Decoder
        self._resume = ""
        self._seq = 0
        self._begin()

    def _begin(self) -> None:
        self._held: tuple[str, ...] = ()
        self._presses: dict[str, int] = {}
        self._pointer = (0.0, 0.0)
        self._latencies = Latencies()

    async def __aenter__(self) -> Self:
        """Raises ServerError if refused, OSError or websockets' InvalidHandshake if there is no server."""
        await self._enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()

    @property
    def frame_rate(self) -> float:
        return float(self.welcome["frame_rate"])

    @property
    def axes(self) -> list[str]:
        """Names of the control vector's components, in order."""
        return [axis["name"] for axis in self.welcome["axes"]]

    async def steer(
        self,
        *,
        keys: Iterable[str] = (),
        axes: Mapping[str, float] | None = None,
        pointer: tuple[float, float] = (0.0, 0.0),
    ) -> int:
        """Hold `keys` and `axes` from now on, and move the pointer by so many pixels.

        Returns the input's number: the first frame whose `receipt.applied_seq` reaches it shows its effect.
        """
        keys = tuple(keys)
        for key in keys:
            if key not in self._held:
                self._presses[key] = self._presses.get(key, 0) + 1
        self._held = keys
        self._pointer = (self._pointer[0] + pointer[0], self._pointer[1] + pointer[1])
        self._seq += 1
        self._latencies.asked(self._seq)
        state = {"keys": keys, "presses": self._presses, "pointer": self._pointer, "axes": dict(axes or {})}
        await self.send("input", seq=self._seq, ts=1000 * time.monotonic(), **state)
        return self._seq

    async def claim(self) -> None:
        """Ask for the controls, as a viewer; `seating["role"]` says when they have come."""
        await self.send("claim")

    async def hand_over(self) -> None:
        """Hand the controls to the viewer who asked first; `frame` raises ServerError if nobody does.

        A viewer asks for them no longer.
        """
        await self.send("yield")

    async def send(self, name: str, **fields: Any) -> None:
        """Send any message of the protocol, as `send("reset", seed=7)` or `send("settings", recall=False)`.

        On a broken connection the message is lost; `frame` mends it.
        """
        with suppress(ConnectionClosed):
            await self._socket.send(msgpack.packb({"t": name, **fields}))

    async def frames(self) -> AsyncGenerator[Frame, None]:
        while True:
            yield await self.frame()

    async def frame(self) -> Frame:
        """The next frame. Raises ServerError when the server refuses to go on, ConnectionError when it is gone."""
        while True:
            message = await self._receive()
            if message["t"] != "frame":
                continue
            pixels = self._decode(message)
            receipt = {name: message["receipt"][name] for name in Receipt.__slots__}
            await self.send("ack", frame=receipt["frame"])
            self._latencies.shown(receipt["applied_seq"])
            if measured := self._latencies.due():
                await self.send("latency", action_to_photon=measured)
            if pixels is not None:
                return Frame(pixels, Receipt(**receipt))

    async def _receive(self) -> Message:
        try:
            message = msgpack.unpackb(await self._socket.recv())
        except ConnectionClosed:
            return await self._come_back(pause=0.0)
        return await self._note(message)

    async def _note(self, message: Message) -> Message:
        match message["t"]:
            case "welcome" | "status" | "recalled" | "progress" as name:
                setattr(self, name, message)
            case "seating":
                self._sit(message)
            case "error" if message["code"].startswith("model."):
                self.setback = message
            case "error":
                raise ServerError(message)
            case "goaway":
                self._resume = message["resume"]
                await self._socket.close()
                return await self._come_back(pause=message["retry_after"])
        return message

    def _sit(self, seating: Message) -> None:
        """Play or watch from now on, also after coming back."""
        self.seating = seating
        self._resume = seating.get("resume", "")
        if seating["role"] != self.place.role:
            self.place = replace(self.place, role=seating["role"], session=self.welcome["session"])
            self._begin()

    async def _enter(self) -> Message:
        """Connect, after a wait in the queue if there is one and we are to."""
        while True:
            try:
                return await self._connect()
            except ServerError as refused:
                if self._queued is None or not refused.place:
                    raise
                self._waiting = refused.waiting
                self._queued(refused.place)
                await asyncio.sleep(refused.retry_after)

    async def _connect(self) -> Message:
        """Say hello and wait for the welcome, which is returned."""
        async with AsyncExitStack() as undo:
            options: dict[str, Any] = {"compression": None, "max_size": MAX_FRAME_BYTES}
            connecting = websockets.connect(self.url, subprotocols=[SUBPROTOCOL], **options)
            self._socket = await undo.enter_async_context(connecting)
            self._begin()
            await self.send("hello", **self._hello())
            while (message := await self._note(msgpack.unpackb(await self._socket.recv())))["t"] != "welcome":
                continue
            undo.pop_all()
        self._decode = decoder(self.place.codec, height=message["height"], width=message["width"])
        self._resume, self._waiting = message["resume"], ""
        return message

    def _hello(self) -> dict[str, Any]:
        wanted = asdict(self.place) | {"waiting": self._waiting}
        if self._resume and self.place.role == "player":  # viewers have no place to keep, they just come again
            wanted = {name: wanted[name] for name in ("token", "role", "codec", "waiting")} | {"resume": self._resume}
        return {name: value for name, value in wanted.items() if value not in ("", None)}

    async def _come_back(self, *, pause: float) -> Message:
        deadline = time.monotonic() + self.patience
        attempt = 0
        while True:
            await asyncio.sleep(pause)
            try:
                return await self._enter()
            except (OSError, InvalidHandshake, InvalidMessage, ConnectionClosed) as error:
                pause = PAUSES[min(attempt, len(PAUSES) - 1)]
                attempt += 1
                if time.monotonic() + pause > deadline:
                    raise ConnectionError(f"expected {self.url} to answer within {self.patience} s") from error
