"""Who waits for a session when there is no room: a fair queue of tickets, kept by coming back in time."""

import secrets
from collections.abc import Callable

from .auth import Refused
from .link import BusyError

MAX_WAITING = 256  # tickets; who comes after them is told to come much later
FIRST_RETRY, RETRY = 2.0, 5.0  # seconds until the first in the queue, and the others, ask again
MISSED = 3.5  # retries after which a place is given up: a page in the background is late


class WaitingRoom:
    """Places by order of coming. Nobody holds a connection: a ticket and coming back before it expires is enough."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds."""
        self._clock = clock
        self._waiters: dict[str, float] = {}  # ticket: by when its bearer asks again, or the place is gone

    def __len__(self) -> int:
        self._sweep()
        return len(self._waiters)

    def check(self, ticket: str) -> None:
        """Raise Refused, with a place, if others have waited longer than the bearer of `ticket` (empty: none yet)."""
        self._sweep()
        if self._waiters and next(iter(self._waiters)) != ticket:
            raise self._told(ticket, "others wait for a session too")

    def turn_away(self, ticket: str, busy: BusyError) -> Refused:
        """The refusal, with a place, for one who found no room."""
        self._sweep()
        return self._told(ticket, str(busy), otherwise=busy.retry_after)

    def leave(self, ticket: str) -> None:
        """The bearer is in."""
        self._waiters.pop(ticket, None)

    def _told(self, ticket: str, message: str, *, otherwise: float = 30.0) -> Refused:
        if ticket not in self._waiters:
            if len(self._waiters) >= MAX_WAITING:
                return Refused("server.busy", message, status=503, retry_after=otherwise)
            ticket = secrets.token_urlsafe(18)
        place = [*self._waiters, ticket].index(ticket) + 1
        retry = FIRST_RETRY if place == 1 else RETRY
        self._waiters[ticket] = self._clock() + MISSED * retry  # an old ticket stays where it is
        return Refused("server.busy", message, status=503, retry_after=retry, place=place, waiting=ticket)

    def _sweep(self) -> None:
        now = self._clock()
        self._waiters = {ticket: asks_by for ticket, asks_by in self._waiters.items() if asks_by >= now}
