"""Where connections become players and viewers of sessions, and sessions lose them again."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field

from model.world_model import ModelSpec

from .auth import Grant, Refused
from .broadcast import Air, Broadcast
from .engine import Engine
from .handle import Handle
from .journal import JournalError, UnknownWorldError
from .limits import Bucket
from .link import BusyError
from .protocol import Axis, Error, Goaway, Hello, Welcome
from .seat import Seat
from .tickets import Tickets

GOAWAY_RETRY = 2.0  # seconds after which the client of a leaving server comes back

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LobbyConfig:
    viewers: int = 16  # of one session: they share an event loop with its player
    messages_per_second: int = 240  # of one connection


@dataclass(slots=True, eq=False)
class _Hall:
    """A session that someone sits in."""

    broadcast: Broadcast
    task: asyncio.Task[None]
    seats: set[Seat] = field(default_factory=set)
    player: Seat | None = None

    @property
    def num_viewers(self) -> int:
        return sum(seat.role == "viewer" for seat in self.seats)


class Lobby:
    """Knows who sits where. `tasks` runs the broadcasts."""

    def __init__(
        self, engine: Engine, *, air: Air, tickets: Tickets, config: LobbyConfig, tasks: asyncio.TaskGroup
    ) -> None:
        self._engine, self._air, self._tickets, self._config, self._tasks = engine, air, tickets, config, tasks
        self._halls: dict[str, _Hall] = {}
        self._places: dict[Seat, _Hall] = {}
        self._is_open = True
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def is_ready(self) -> bool:
        return self._is_open and self._engine.is_alive

    async def enter(self, hello: Hello, allowed: Grant) -> Seat:
        """A seat as `hello` asks for, as far as it is `allowed`; raises Refused. Next: `watch`; `leave` in the end."""
        if not self._is_open:
            raise Refused("server.leaving", "the server is leaving", status=503, retry_after=GOAWAY_RETRY)
        try:
            handle = self._seen(hello, allowed) if hello.role == "viewer" else await self._played(hello, allowed)
        except UnknownWorldError as error:
            raise Refused("session.unknown", str(error), status=404) from error
        except JournalError as error:
            raise Refused("session.damaged", str(error), status=409) from error
        except BusyError as busy:
            raise Refused(busy.code, str(busy), status=503, retry_after=busy.retry_after) from busy
        except ValueError as error:  # what the model has against the prompt
            raise Refused("session.refused", str(error), status=400) from error
        return self._sit(handle, hello)

    async def leave(self, seat: Seat, *, unused: bool = False) -> None:
        """Give a seat up. Its session waits a while for the player, or ends if it was opened for nothing (`unused`)."""
        seat.unwatch()
        hall, handle = self._places.pop(seat), seat.broadcast.handle
        if not self._places:
            self._empty.set()
        hall.seats.discard(seat)
        if hall.player is seat:
            hall.player = None
            handle.player_left()
        if not hall.seats:
            hall.task.cancel()
            if self._halls.get(handle.id) is hall:
                del self._halls[handle.id]
            if unused and seat.is_first:
                with suppress(BusyError):  # the engine has ended, and with it the session
                    await handle.close("session.unused", "nobody came")

    def close(self) -> None:
        """Let nobody in any more, and tell those inside how to come back."""
        self._is_open = False
        for seat in self._places:
            seat.say(Goaway(resume=seat.welcome.resume, retry_after=GOAWAY_RETRY))

    async def wait_until_empty(self) -> None:
        await self._empty.wait()

    def _seen(self, hello: Hello, allowed: Grant) -> Handle:
        """The session that a viewer asks for."""
        wanted = hello.session or allowed.session
        _check_session(wanted, allowed)
        handle = self._engine.find(wanted)
        if handle is None:
            raise UnknownWorldError(f"expected a session that lives, got {wanted!r}")
        hall = self._halls.get(wanted)
        if hall and hall.num_viewers >= self._config.viewers:
            raise Refused("session.full", f"{hall.num_viewers} watch already", status=503, retry_after=5.0)
        return handle

    async def _played(self, hello: Hello, allowed: Grant) -> Handle:
        """The session that a player comes back to, takes over from nobody, or begins."""
        if allowed.role == "viewer":
            raise Refused("auth.role", "expected a player's token, got a viewer's", status=403)
        if hello.resume:
            wanted = self._tickets.session_of(hello.resume)
            _check_session(wanted, allowed)
            return await self._engine.resume(wanted)
        wanted = hello.session or allowed.session
        _check_session(wanted, allowed)
        if not wanted:
            return await self._engine.open(prompt=hello.prompt, seed=hello.seed)
        handle = self._engine.find(wanted)
        if not allowed.session or (handle is not None and handle.has_player):
            raise Refused("session.taken", f"expected a resume token to play {wanted!r}, got none", status=409)
        return await self._engine.resume(wanted)

    def _sit(self, handle: Handle, hello: Hello) -> Seat:
        hall = self._hall(handle)
        is_first = not hall.seats and not hello.resume and not hello.session
        bucket = Bucket(self._config.messages_per_second, rate=self._config.messages_per_second, clock=self._air.clock)
        welcome = self._welcome(handle, hello)
        seat = Seat(hall.broadcast, welcome=welcome, bucket=bucket, clock=self._air.clock, is_first=is_first)
        if hello.role == "player":
            if hall.player is not None:
                hall.player.retire(Error(code="session.moved", message="the player came back elsewhere"))
            hall.player = seat
            handle.player_joined()
        hall.seats.add(seat)
        self._places[seat] = hall
        self._empty.clear()
        return seat

    def _hall(self, handle: Handle) -> _Hall:
        hall = self._halls.get(handle.id)
        if hall is None or hall.broadcast.handle is not handle:  # the session ended and was brought back
            broadcast = Broadcast(handle, self._air)
            hall = self._halls[handle.id] = _Hall(broadcast, self._tasks.create_task(_run(broadcast)))
        return hall

    def _welcome(self, handle: Handle, hello: Hello) -> Welcome:
        spec = self._air.spec
        return Welcome(
            session=handle.id,
            resume=self._tickets.issue(handle.id) if hello.role == "player" else "",
            role=hello.role,
            model=spec.name,
            width=spec.frame_shape[1],
            height=spec.frame_shape[0],
            frame_rate=spec.frame_rate,
            schedule=spec.schedule,
            context_tokens=spec.context_tokens,
            num_recalled=spec.num_recalled,
            axes=_axes(spec),
            accepts_image=spec.accepts_image,
            accepts_prompt=spec.accepts_prompt,
        )


def _check_session(wanted: str, allowed: Grant) -> None:
    if allowed.session and wanted != allowed.session:
        raise Refused("auth.session", "expected the session that the token is for, got another", status=403)


def _axes(spec: ModelSpec) -> list[Axis]:
    return [
        Axis(name=axis.name, keys=dict(axis.keys), pointer=axis.pointer, pointer_gain=axis.pointer_gain)
        for axis in spec.controls.axes
    ]


async def _run(broadcast: Broadcast) -> None:
    """A broadcast that fails takes only its own watchers with it."""
    try:
        await broadcast.run()
    except Exception:  # noqa: BLE001 - the connections' edge
        logger.exception("session %s is off the air", broadcast.handle.id)
        broadcast.end(Error(code="server.failed", message="the pictures of this session could not be made"))
