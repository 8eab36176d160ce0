"""From the engine's thread to asyncio: a session's newest frame for everyone who reads, each frame at its time."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from .session import Recalled


@dataclass(frozen=True, slots=True, eq=False)
class Produced:
    """One frame with what its receipt needs. Times are milliseconds on the server's clock, as in `protocol.Receipt`."""

    index: int  # of the frame in the session; grows over resets too
    frame: np.ndarray  # (H, W, 3) uint8
    applied_seq: int  # -1 before any input
    client_ts: float
    t_recv: float
    t_applied: float
    recalled: Recalled  # the same object for as long as the choice is the same
    generate_ms: float  # from binding the controls of the frame's section to having its frames


MOST_WAITING = 3  # sections whose frames wait for their time, or for someone to see them: two were on their way


class SessionEndedError(Exception):
    """The session is over. `code` goes to the client, who may come back after `retry_after` seconds unless it is 0."""

    def __init__(self, code: str, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class Mailbox:
    """The newest frame for one reader; a frame that was not read in time is lost to it, and delays nobody.

    Iterate over it, or `get`. It belongs to the event loop that the session was opened on.
    """

    def __init__(self, feed: "Feed", *, set_back: Callable[[str], None] = lambda _: None) -> None:
        """`set_back` is told, while it is open, why a section was lost that would have been next."""
        self.set_back = set_back
        self._feed = feed
        self._newest: Produced | None = None
        self._changed = asyncio.Event()

    async def get(self) -> Produced:
        """Wait for a frame that this reader has not had; the first may be an older one. Raises SessionEndedError."""
        while self._newest is None:
            if self._feed.ended is not None:
                raise self._feed.ended
            self._changed.clear()
            await self._changed.wait()
        produced, self._newest = self._newest, None
        return produced

    def put(self, produced: Produced | None) -> None:
        """Replace the waiting frame; None says that the session has ended."""
        self._newest = produced or self._newest
        self._changed.set()

    def open(self) -> None:
        """Begin to read, with the frame that was shown last, or begin again after `close`."""
        self._feed.join(self)

    def close(self) -> None:
        """Read no more; a session that nobody reads stops generating, and its next frame waits."""
        self._feed.leave(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Produced:
        try:
            return await self.get()
        except SessionEndedError as ended:
            raise StopAsyncIteration from ended

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Feed:
    """One session's frames on their way to its mailboxes. All methods are for the event loop's thread."""

    def __init__(self, *, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        """`changed` is called when readers come or go."""
        self.newest: Produced | None = None
        self.ended: SessionEndedError | None = None
        self._clock, self._changed = clock, changed
        self._mailboxes: set[Mailbox] = set()
        self._waiting: deque[tuple[float, Produced]] = deque()  # `MOST_WAITING` sections: the pacer sees to it
        self._shown_at = 0.0  # when the newest was due
        self._timer: asyncio.Handle | None = None

    @property
    def num_readers(self) -> int:
        return len(self._mailboxes)

    def join(self, mailbox: Mailbox) -> None:
        if self.newest is not None or self.ended is not None:
            mailbox.put(self.newest)
        is_first = not self._mailboxes
        self._mailboxes.add(mailbox)
        if is_first and self._waiting:
            self._take_up()
        self._changed()

    def leave(self, mailbox: Mailbox) -> None:
        self._mailboxes.discard(mailbox)
        if not self._mailboxes and self._timer is not None:
            self._timer.cancel()  # the frames that nobody has seen are for whoever comes back
        self._changed()

    def release(self, section: Sequence[tuple[float, Produced]]) -> None:
        """Show each frame at its time, in seconds of the clock, and never before an earlier one.

        When nobody reads any more, the section that was in flight then waits with those before it.
        """
        self._waiting.extend(section)
        if self._mailboxes or len(self._waiting) > MOST_WAITING * len(section):
            self._show_due()

    def clear(self) -> None:
        """Drop the frames that still wait for their time: their world has been left."""
        self._waiting.clear()

    def set_back(self, reason: str) -> None:
        """Tell every reader why the section that was in flight will not come; others will."""
        for mailbox in list(self._mailboxes):
            mailbox.set_back(reason)

    def end(self, ended: SessionEndedError) -> None:
        """Let every reader have its last frame and then know why there are no more."""
        self.clear()
        self.ended = ended
        for mailbox in self._mailboxes:
            mailbox.put(None)

    def _take_up(self) -> None:
        """Show the frames that wait as far after now as they were to come after the one that was shown last."""
        late = self._clock() - (self._waiting[0][0] if self.newest is None else self._shown_at)
        self._waiting = deque((at + late, produced) for at, produced in self._waiting)
        self._show_due()

    def _show_due(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._clock():
            self._shown_at, self.newest = self._waiting.popleft()
            for mailbox in self._mailboxes:
                mailbox.put(self.newest)
        if self._timer is not None:
            self._timer.cancel()
        if self._waiting:
            delay = self._waiting[0][0] - self._clock()
            self._timer = asyncio.get_running_loop().call_later(delay, self._show_due)
