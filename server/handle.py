"""A session as the server's edges hold it; all of it belongs to the event loop that opened it."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from .feed import Mailbox, SessionEndedError
from .line import Line
from .link import BusyError, Requests, SharedControls
from .progress import Progress
from .world import Opening, World

MAX_SEED = 2**53


def some_seed(seed: int | None) -> int:
    return secrets.randbelow(MAX_SEED) if seed is None else seed


@dataclass(frozen=True, slots=True)
class SessionStats:
    """A session's figures, for reports."""

    num_memories: int
    recall_us: int  # what the last recall took
    generate_ms: float  # what the last section took, from binding its controls to having its frames
    frame_rate: float  # that its schedule aims at, frames per second
    num_readers: int
    journal_problem: str  # empty, or why nothing is written down


class Handle:
    """One session: its controls, its frames, and what may be asked of it."""

    def __init__(self, line: Line, requests: Requests, *, clock: Callable[[], float]) -> None:
        self._line, self._requests, self._clock = line, requests, clock

    @property
    def id(self) -> str:
        return self._line.link.id

    @property
    def controls(self) -> SharedControls:
        """Where the player's inputs go, with the time of their arrival in seconds of the engine's clock."""
        return self._line.link.controls

    @property
    def ended(self) -> SessionEndedError | None:
        return self._line.ended

    @property
    def recalls(self) -> bool:
        return self._line.recalls

    @property
    def paused(self) -> bool:
        return self._line.paused

    @property
    def progress(self) -> Progress | None:
        """How far the section in flight is, if it takes long."""
        return self._line.progress

    @property
    def num_memories(self) -> int:
        return self._line.world.session.num_memories

    @property
    def has_player(self) -> bool:
        return self._line.link.player_gone_at is None

    def stats(self) -> SessionStats:
        line = self._line
        session = line.world.session
        return SessionStats(
            num_memories=session.num_memories,
            recall_us=session.recall_us,
            generate_ms=line.generate_ms,
            frame_rate=1.0 / line.pacer.period,
            num_readers=line.link.feed.num_readers,
            journal_problem=line.diary.problem,
        )

    def subscribe(self) -> Mailbox:
        """Read the session's frames, the newest first; close the mailbox when done (it is a context manager)."""
        mailbox = self.mailbox()
        mailbox.open()
        return mailbox

    def mailbox(self, *, set_back: Callable[[str], None] = lambda _: None) -> Mailbox:
        """As `subscribe`, but nothing is read before it is opened; `set_back` is told of sections that are lost."""
        return Mailbox(self._line.link.feed, set_back=set_back)

    def player_joined(self) -> None:
        """Someone takes the controls, from the last player if there is one; inputs count from zero.

        The world goes on once somebody reads its frames.
        """
        self.controls.hand_over()
        self._line.link.player_gone_at = None
        self._requests.wake()

    @property
    def handovers(self) -> int:
        """How often the controls went from one client to another, as far as this process knows."""
        return self._line.link.handovers

    def count_handovers(self, handovers: int) -> None:
        """Know of so many hand-overs: of one more, or of those that a ticket tells after a restart."""
        self._line.link.handovers = max(self._line.link.handovers, handovers)

    def player_left(self) -> None:
        """Nobody has the controls; all are let go. If nobody takes them in time, the session ends."""
        self.controls.hand_over()
        self._line.link.player_gone_at = self._clock()
        self._requests.wake()

    def settings(self, *, recall: bool | None = None, paused: bool | None = None) -> None:
        """Takes effect with the next section; None leaves a setting as it is."""
        self._requests.post(partial(self._line.set, recalls=recall, paused=paused))

    async def set_prompt(self, prompt: str) -> None:
        """From the next section on; raises what the model has against it."""
        await self._requests.ask(lambda: self._living().set_prompt(prompt))

    async def reset(self, *, image: np.ndarray | None = None, prompt: str = "", seed: int | None = None) -> None:
        """Leave this world for a new one, as `Engine.open` begins one. If that fails, the old one stays."""
        await self._requests.ask(partial(self._reset, Opening(image, prompt, some_seed(seed))))

    async def close(self, code: str = "session.closed", message: str = "the session was closed") -> None:
        """End the session for everyone."""
        await self._requests.ask(partial(self._line.end, SessionEndedError(code, message)))

    def _reset(self, opening: Opening) -> None:
        line = self._living()
        old = line.world
        world = World(old.model, opening, first_frame=old.next_frame, capacity=old.session.capacity)
        line.enter(world, created=time.time())

    def _living(self) -> Line:
        if (ended := self._line.ended) is not None:
            raise BusyError(ended.code, str(ended), retry_after=0.0)
        return self._line
