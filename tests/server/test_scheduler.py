"""Turns under a clock that the test moves: room, urgency, fairness, and joining between steps."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from server.scheduler import Scheduler


def scheduler(max_batch: int, **deadlines: float) -> Scheduler[str]:
    made = Scheduler[str](max_batch=max_batch)
    for key, deadline in deadlines.items():
        made.wait(key, begin_at=0.0, deadline=deadline)
    return made


def test_nobody_begins_early() -> None:
    made = Scheduler[str](max_batch=4)
    made.wait("a", begin_at=2.0, deadline=3.0)
    made.wait("b", begin_at=1.0, deadline=4.0)
    assert made.wake_at(after=0.0) == 1.0
    assert made.admit(0.5) == []
    assert made.admit(1.0) == ["b"]
    assert made.wake_at(after=1.0) == 2.0


def test_who_waits_for_room_is_not_woken_for() -> None:
    made = scheduler(1, a=1.0, b=2.0)
    made.wait("c", begin_at=3.0, deadline=4.0)
    assert made.admit(0.0) == ["a"]
    assert made.wake_at(after=0.0) == 3.0
    assert made.wake_at(after=3.0) is None


def test_narrowed_it_lets_in_fewer() -> None:
    made = scheduler(4, a=1.0, b=2.0, c=3.0, d=4.0)
    made.narrow(2)
    assert made.admit(0.0) == ["a", "b"]
    made.narrow(3)
    assert made.admit(0.0) == []


def test_the_most_urgent_come_first_and_ties_in_order_of_asking() -> None:
    made = scheduler(3, a=5.0, b=2.0, c=5.0, d=1.0)
    assert made.admit(0.0) == ["d", "b", "a"]
    assert made.running == ("d", "b", "a")


def test_who_leaves_makes_room_between_steps() -> None:
    made = scheduler(2, a=1.0, b=2.0, c=3.0)
    made.admit(0.0)
    assert made.admit(0.0) == []
    made.leave("a")
    assert made.admit(0.0) == ["c"]
    assert made.running == ("b", "c")


def test_a_turn_can_be_forgone_while_waiting() -> None:
    made = scheduler(2, a=1.0)
    made.leave("a")
    assert made.admit(0.0) == []
    assert made.wake_at(after=-1.0) is None


def test_asking_again_replaces_the_turn() -> None:
    made = scheduler(1, a=1.0)
    made.wait("a", begin_at=7.0, deadline=8.0)
    assert made.admit(0.0) == []
    assert made.wake_at(after=0.0) == 7.0


def test_who_is_alone_shares_no_batch_and_is_not_passed_by() -> None:
    made = scheduler(4, a=1.0, c=3.0)
    made.wait("b", begin_at=0.0, deadline=2.0, alone=True)
    assert made.admit(0.0) == ["a"]
    made.leave("a")
    assert made.admit(0.0) == ["b"]
    assert made.admit(0.0) == []
    made.leave("b")
    assert made.admit(0.0) == ["c"]


@given(
    max_batch=st.integers(1, 4),
    num_steps=st.lists(st.integers(1, 5), min_size=1, max_size=9),
    alone=st.sets(st.integers(0, 8)),
)
def test_under_overload_everyone_gets_turns(max_batch: int, num_steps: list[int], alone: set[int]) -> None:
    """Sessions that always want more, with sections of any number of steps: one turn each in the longest round."""
    made = Scheduler[int](max_batch=max_batch)
    for key in range(len(num_steps)):
        made.wait(key, begin_at=0.0, deadline=0.0, alone=key in alone)
    left: dict[int, int] = {}
    turns: Counter[int] = Counter()
    for now in range(400):
        left |= {key: num_steps[key] for key in made.admit(float(now))}
        assert set(made.running) == left.keys()
        assert 1 <= len(left) <= max_batch
        assert len(left) == 1 or not alone & left.keys()
        left = {key: steps - 1 for key, steps in left.items()}
        for key in [key for key, steps in left.items() if steps == 0]:
            del left[key]
            made.leave(key)
            made.wait(key, begin_at=now + 1.0, deadline=now + 1.0, alone=key in alone)
            turns[key] += 1
    longest_round = max(num_steps) * len(num_steps)
    assert min(turns[key] for key in range(len(num_steps))) >= 400 // longest_round - 1
