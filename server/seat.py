"""One connection's place in a session: what it may do there, whichever way its messages come."""

import asyncio
from collections.abc import Callable

from .auth import Grant, Role
from .broadcast import Watcher
from .encode import Codec
from .hall import Hall
from .limits import Bucket
from .link import BusyError
from .protocol import (
    Claim,
    Error,
    FromClient,
    Input,
    Latency,
    Message,
    Ping,
    Pong,
    Prompt,
    ProtocolError,
    Reset,
    Settings,
    Welcome,
    Yield,
    decode_from_client,
)
from .upload import read_image


class Seat:
    """A player's or a viewer's. From `watch` on, pictures and messages wait for it in the watcher's boxes."""

    def __init__(
        self, hall: Hall, *, welcome: Welcome, bucket: Bucket, clock: Callable[[], float], allowed: Grant
    ) -> None:
        """`bucket` paces what the client may send; `clock` is the engine's; `allowed` is by the client's token."""
        self.broadcast = hall.broadcast
        self.welcome = welcome
        self.allowed = allowed
        self.role: Role = welcome.role
        self._hall, self._handle = hall, hall.broadcast.handle
        self._bucket, self._clock = bucket, clock
        self._has_played = False
        self._watcher: Watcher | None = None
        self._retired: Error | None = None

    @property
    def may_play(self) -> bool:
        return self.allowed.role == "player"

    def watch(self, codec: Codec) -> Watcher:
        """Begin to receive pictures, and messages, of which `greet` sends the first."""
        self._watcher = self.broadcast.join(role=self.role, codec=codec)
        return self._watcher

    def greet(self) -> None:
        """Say welcome, now that messages go through."""
        if self._watcher is not None:
            self.broadcast.greet(self._watcher, self.welcome)
            self._hall.tell(self)

    def unwatch(self) -> None:
        if self._watcher is not None:
            self.broadcast.leave(self._watcher)
            self._watcher = None

    def say(self, message: Message) -> None:
        """Send the client a message, if it watches already."""
        if self._watcher is not None:
            self._watcher.messages.put(message)

    def recast(self, role: Role) -> None:
        """Have another role from now on; the hall tells the client."""
        self._has_played = self._has_played or self.role == "player"
        self.role = role
        if self._watcher is not None:
            self.broadcast.recast(self._watcher, role)

    def retire(self, reason: Error) -> None:
        """Someone else has the seat now: what this client still sends must not steer."""
        self._retired = reason
        self.say(reason)

    def read(self, data: bytes) -> FromClient:
        """Parse one message; raises ProtocolError if it is none, or one too many."""
        if self._retired is not None:
            raise ProtocolError(self._retired.code, self._retired.message)
        if not self._bucket.take():
            raise ProtocolError("limit.messages", "expected fewer messages a second")
        return decode_from_client(data)

    def steer(self, message: Input) -> None:
        """Take the controls' state from a player. What was on its way when the controls were handed over is dropped."""
        if self.role == "viewer":
            if self._has_played:
                return
            raise ProtocolError("role.viewer", "expected no controls from a viewer")
        try:
            self._handle.controls.receive(message, self._clock())
        except ProtocolError as error:
            self._object(error)

    async def obey(self, message: FromClient) -> None:
        """Do what a message asks. What does not work is told to the client; raises ProtocolError if that is not enough.

        Messages of the transports themselves (hello, ack) are none of its business.
        """
        if isinstance(message, Input):
            return self.steer(message)
        if isinstance(message, Ping):
            return self.say(Pong(ts=message.ts))
        try:
            await self._change(message)
        except ProtocolError as error:
            self._object(error)
        except BusyError as busy:
            self.say(Error(code="input.busy", message=str(busy), retry_after=busy.retry_after))
        except ValueError as error:  # what the model has against it
            self.say(Error(code="input.refused", message=str(error)))

    async def _change(self, message: FromClient) -> None:
        match message:
            case Claim():
                self._hall.claim(self)
            case Yield():
                self._hall.hand_over(self)
            case _ if self.role == "viewer":
                code = "input.role" if self._has_played else "role.viewer"  # it may not know yet that it plays no more
                raise ProtocolError(code, f"expected a player, got {type(message).__name__.lower()} from a viewer")
            case Latency():
                self.broadcast.answered(message.action_to_photon)
            case Settings():
                self._handle.settings(recall=message.recall, paused=message.paused)
            case Prompt():
                await self._handle.set_prompt(message.text)
            case Reset():
                # not in the encoder's thread: a large image would hold up everyone's pictures
                image = await asyncio.to_thread(read_image, message.image) if message.image else None
                await self._handle.reset(image=image, prompt=message.prompt, seed=message.seed)
            case _:
                raise ProtocolError("message.order", f"expected no {type(message).__name__.lower()} here")

    def _object(self, error: ProtocolError) -> None:
        """Tell the client, and close if that is what the code means."""
        if not error.code.startswith("input."):
            raise error
        self.say(Error(code=error.code, message=str(error)))
