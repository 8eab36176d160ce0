"""The queue is fair, bounded, and forgets those who do not come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.auth import Refused
from server.link import BusyError
from server.waiting import MAX_WAITING, MISSED, RETRY, WaitingRoom

BUSY = BusyError("server.busy", "no room", retry_after=30.0)


class Clock:
    now = 70.0

    def __call__(self) -> float:
        return self.now


def ask(room: WaitingRoom, ticket: str = "") -> Refused:
    return room.turn_away(ticket, BUSY)


def test_places_are_by_coming_and_move_up_when_one_is_let_in() -> None:
    room = WaitingRoom(Clock())
    first, second, third = (ask(room) for _ in range(3))
    assert [one.place for one in (first, second, third)] == [1, 2, 3]
    assert len({one.waiting for one in (first, second, third)}) == 3
    assert (first.status, first.code) == (503, "server.busy") and 0 < first.retry_after < second.retry_after
    assert ask(room, third.waiting).place == 3
    room.leave(first.waiting)
    assert (ask(room, third.waiting).place, ask(room, second.waiting).place) == (2, 1)


def test_only_the_first_is_let_pass_and_anyone_when_nobody_waits() -> None:
    room = WaitingRoom(Clock())
    room.check("")
    room.check("what another server gave")
    first, second = ask(room), ask(room)
    for ticket, place in (("", 3), (second.waiting, 2)):
        with pytest.raises(Refused) as told:
            room.check(ticket)
        assert told.value.place == place
    room.check(first.waiting)


def test_who_does_not_come_back_in_time_loses_the_place() -> None:
    clock = Clock()
    room = WaitingRoom(clock)
    first, second = ask(room), ask(room)
    clock.now += first.retry_after * MISSED - 0.1
    assert ask(room, second.waiting).place == 2
    clock.now += 0.2
    assert ask(room, second.waiting).place == 1
    assert ask(room, first.waiting).place == 2  # behind
    clock.now += RETRY * MISSED + 0.1
    assert len(room) == 0
    room.check("")


def test_the_queue_is_bounded_and_who_is_in_it_keeps_the_place() -> None:
    room = WaitingRoom(Clock())
    told = [ask(room) for _ in range(MAX_WAITING)]
    late = ask(room)
    assert (late.place, late.waiting, late.retry_after) == (0, "", BUSY.retry_after)
    assert len(room) == MAX_WAITING
    assert ask(room, told[-1].waiting).place == MAX_WAITING


@given(st.lists(st.integers(0, 4), max_size=60))
def test_nobody_overtakes(comings: list[int]) -> None:
    """Five clients ask in any order while rooms become free: they are let in as they first came."""
    room, tickets, came, entered = WaitingRoom(Clock()), dict.fromkeys(range(5), ""), [], []
    for turn, client in enumerate(comings):
        if client in entered:
            continue
        if client not in came:
            came.append(client)
        try:
            room.check(tickets[client])
            if turn % 3:
                raise ask(room, tickets[client])
        except Refused as refused:
            tickets[client] = refused.waiting
        else:
            room.leave(tickets[client])
            entered.append(client)
    assert entered == came[: len(entered)]
