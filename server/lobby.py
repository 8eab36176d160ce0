"""Where connections become players and viewers of sessions, and sessions lose them again."""

import asyncio
import logging
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from model.world_model import ModelSpec

from .auth import Grant, Refused
from .broadcast import Air, Broadcast
from .engine import Engine
from .farewell import survived
from .hall import Hall
from .handle import Handle
from .journal import JournalError, UnknownWorldError
from .limits import Bucket
from .link import BusyError
from .logs import current_session
from .protocol import Axis, Error, Goaway, Hello, Welcome
from .seat import Seat
from .tickets import Ticket, Tickets
from .waiting import WaitingRoom

GOAWAY_RETRY = 2.0  # seconds after which the client of a leaving server comes back

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LobbyConfig:
    viewers: int = 32  # of one session: they share an event loop with its player, who does not feel so many
    messages_per_second: int = 240  # of one connection
    per_token: int = 8  # connections at once with one signed token, which may have been passed on


class Lobby:
    """Knows who sits where. `tasks` runs the broadcasts."""

    def __init__(
        self, engine: Engine, *, air: Air, tickets: Tickets, config: LobbyConfig, tasks: asyncio.TaskGroup
    ) -> None:
        self._engine, self._air, self._tickets, self._config, self._tasks = engine, air, tickets, config, tasks
        self._halls: dict[str, Hall] = {}
        self._places: dict[Seat, Hall] = {}
        self._waiting = WaitingRoom(engine.clock)
        self._bearers: Counter[str] = Counter()  # connections by signed token
        self.num_left = 0  # connections that had a seat, since the beginning
        self._is_open = True
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def num_waiting(self) -> int:
        """Players in the queue for a session."""
        return len(self._waiting)

    @property
    def is_ready(self) -> bool:
        return self._is_open and self._engine.is_alive

    async def enter(self, hello: Hello, allowed: Grant) -> Seat:
        """A seat as `hello` asks for, as far as it is `allowed`; raises Refused. Next: `watch`; `leave` in the end."""
        if not self._is_open:
            raise Refused("server.leaving", "the server is leaving", status=503, retry_after=GOAWAY_RETRY)
        self._admit(allowed)
        with ExitStack() as undo:
            undo.callback(self._dismiss, allowed)
            seat = await self._enter(hello, allowed)
            undo.pop_all()
        return seat

    async def _enter(self, hello: Hello, allowed: Grant) -> Seat:
        try:
            handle = self._seen(hello, allowed) if hello.role == "viewer" else await self._played(hello, allowed)
        except UnknownWorldError as error:
            raise Refused("session.unknown", str(error), status=404) from error
        except JournalError as error:
            raise Refused("session.damaged", str(error), status=409) from error
        except BusyError as busy:
            raise self._turned_away(hello, busy) from busy
        except ValueError as error:  # what the model has against the prompt
            raise Refused("session.refused", str(error), status=400) from error
        self._waiting.leave(hello.waiting)
        return self._sit(handle, hello, allowed)

    async def leave(self, seat: Seat, *, unused: bool = False) -> None:
        """Give a seat up. Its session waits a while for the player, or ends if it was opened for nothing (`unused`)."""
        seat.unwatch()
        hall, handle = self._places.pop(seat), seat.broadcast.handle
        self._dismiss(seat.allowed)
        self.num_left += 1
        if not self._places:
            self._empty.set()
        hall.leave(seat)
        if hall.is_empty:
            hall.task.cancel()
            if self._halls.get(handle.id) is hall:
                del self._halls[handle.id]
            if unused and seat is hall.first:
                with suppress(BusyError):  # the engine has ended, and with it the session
                    await handle.close("session.unused", "nobody came")

    def close(self) -> None:
        """Let nobody in any more, and tell those inside how to come back."""
        self._is_open = False
        for seat, hall in self._places.items():
            resume = hall.ticket() if seat.role == "player" else ""
            seat.say(Goaway(resume=resume, retry_after=GOAWAY_RETRY))

    async def wait_until_empty(self) -> None:
        await self._empty.wait()

    def _admit(self, allowed: Grant) -> None:
        if self._bearers[allowed.bearer] >= self._config.per_token:
            raise Refused("limit.token", "too many connections with this token", status=429, retry_after=5.0)
        self._bearers[allowed.bearer] += bool(allowed.bearer)

    def _dismiss(self, allowed: Grant) -> None:
        self._bearers[allowed.bearer] -= bool(allowed.bearer)
        if not self._bearers[allowed.bearer]:
            del self._bearers[allowed.bearer]

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
            return await self._resumed(self._tickets.read(hello.resume), allowed)
        wanted = hello.session or allowed.session
        _check_session(wanted, allowed)
        if not wanted:
            self._waiting.check(hello.waiting)
            return await self._engine.open(prompt=hello.prompt, seed=hello.seed)
        handle = self._engine.find(wanted)
        if not allowed.session or (handle is not None and handle.has_player):
            raise Refused("session.taken", f"expected a resume token to play {wanted!r}, got none", status=409)
        return await self._engine.resume(wanted)

    async def _resumed(self, ticket: Ticket, allowed: Grant) -> Handle:
        """The session that a player comes back to, unless the controls went to someone else meanwhile."""
        _check_session(ticket.session, allowed)
        handle = await self._engine.resume(ticket.session)
        if ticket.handovers < handle.handovers:
            raise Refused("session.yielded", "expected the newest resume token: the controls went on", status=409)
        handle.count_handovers(ticket.handovers)
        return handle

    def _turned_away(self, hello: Hello, busy: BusyError) -> Refused:
        if busy.code != "server.busy":
            return Refused(busy.code, str(busy), status=503, retry_after=busy.retry_after)
        return self._waiting.turn_away(hello.waiting, busy)

    def _sit(self, handle: Handle, hello: Hello, allowed: Grant) -> Seat:
        hall = self._hall(handle)
        is_first = hall.is_empty and not hello.resume and not hello.session
        bucket = Bucket(self._config.messages_per_second, rate=self._config.messages_per_second, clock=self._air.clock)
        welcome = self._welcome(hall, hello)
        seat = Seat(hall, welcome=welcome, bucket=bucket, clock=self._air.clock, allowed=allowed)
        hall.sit(seat, is_first=is_first)
        self._places[seat] = hall
        self._empty.clear()
        logger.info("a %s came", seat.role, extra={"session": handle.id})
        return seat

    def _hall(self, handle: Handle) -> Hall:
        hall = self._halls.get(handle.id)
        if hall is None or hall.broadcast.handle is not handle:  # the session ended and was brought back
            broadcast = Broadcast(handle, self._air)
            task = self._tasks.create_task(_run(broadcast))
            hall = self._halls[handle.id] = Hall(broadcast, task=task, issue=self._tickets.issue)
        return hall

    def _welcome(self, hall: Hall, hello: Hello) -> Welcome:
        spec = self._air.spec
        return Welcome(
            session=hall.broadcast.handle.id,
            resume=hall.ticket() if hello.role == "player" else "",
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
    current_session.set(broadcast.handle.id)
    if not await survived(broadcast.run(), "the session is off the air"):
        broadcast.end(Error(code="server.failed", message="the pictures of this session could not be made"))
