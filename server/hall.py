"""One session's seats: who holds its controls, who asks for them, and how they are handed over."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from .broadcast import Broadcast
from .protocol import Error, ProtocolError, Seating
from .tickets import Ticket

if TYPE_CHECKING:
    from .seat import Seat  # which has its place here


class Hall:
    """Those who sit in one session: at most one player, and viewers, some of whom ask for the controls."""

    def __init__(self, broadcast: Broadcast, *, task: asyncio.Task[None], issue: Callable[[Ticket], str]) -> None:
        """`task` runs the broadcast; `issue` makes a ticket."""
        self.broadcast = broadcast
        self.task = task
        self.player: Seat | None = None
        self.first: Seat | None = None
        self._issue = issue
        self._seats: list[Seat] = []
        self._asking: list[Seat] = []  # each viewer once, in the order of asking

    @property
    def is_empty(self) -> bool:
        return not self._seats

    @property
    def num_viewers(self) -> int:
        return sum(seat.role == "viewer" for seat in self._seats)

    def sit(self, seat: "Seat", *, is_first: bool) -> None:
        """Take someone in (`is_first`: the session began with it); a player retires the one there is."""
        self._seats.append(seat)
        if is_first:
            self.first = seat
        if seat.role == "player":
            if self.player is not None:
                self.player.retire(Error(code="session.moved", message="the player came back elsewhere"))
                self._seats.remove(self.player)
            self._give_controls(seat)
            self._tell_all()

    def leave(self, seat: "Seat") -> None:
        """Let someone go; the controls wait for their player to come back."""
        if seat not in self._seats:  # retired
            return
        self._seats.remove(seat)
        if seat is self.player:
            self.player = None
            self.broadcast.handle.player_left()
        elif seat in self._asking:
            self._asking.remove(seat)
        else:
            return
        self._tell_all()

    def claim(self, seat: "Seat") -> None:
        """A viewer asks for the controls; raises ProtocolError if it may not have them."""
        if not seat.may_play:
            raise ProtocolError("input.role", "expected a token that lets one play, got a viewer's")
        if seat is self.player or seat in self._asking:
            return self.tell(seat)
        self._asking.append(seat)
        self._tell_all()

    def hand_over(self, seat: "Seat") -> None:
        """A player yields to the first who asks, or a viewer asks no longer; raises ProtocolError if nobody asks."""
        if seat in self._asking:
            self._asking.remove(seat)
        elif seat is not self.player:
            return self.tell(seat)
        elif not self._asking:
            raise ProtocolError("input.nobody", "expected a viewer who asks for the controls, got none")
        else:
            handle = self.broadcast.handle
            handle.count_handovers(handle.handovers + 1)  # from now on the old player's ticket is void
            seat.recast("viewer")
            heir = self._asking.pop(0)
            heir.recast("player")
            self._give_controls(heir)
        self._tell_all()

    def tell(self, seat: "Seat") -> None:
        """Say who holds the controls."""
        seat.say(
            Seating(
                role=seat.role,
                resume=self.ticket() if seat.role == "player" else "",
                has_player=self.player is not None,
                num_asking=len(self._asking),
                place=self._asking.index(seat) + 1 if seat in self._asking else 0,
            )
        )

    def ticket(self) -> str:
        """By which whoever has the controls now comes back to them."""
        handle = self.broadcast.handle
        return self._issue(Ticket(handle.id, handle.handovers))

    def _give_controls(self, seat: "Seat") -> None:
        self.player = seat
        self.broadcast.handle.player_joined()

    def _tell_all(self) -> None:
        for seat in self._seats:
            self.tell(seat)
