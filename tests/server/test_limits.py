"""Nobody gets more than the limits, and everybody gets what the limits allow."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.auth import Refused
from server.limits import MAX_ADDRESSES, Bucket, Doorkeeper, LimitConfig


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0, 3), max_size=60), st.integers(1, 9), st.floats(0.5, 9))
def test_a_bucket_allows_its_size_and_its_rate(gaps: list[float], size: int, rate: float) -> None:
    clock = Clock()
    bucket = Bucket(size, rate=rate, clock=clock)
    allowed = 0
    for gap in gaps:
        clock.now += gap
        allowed += bucket.take()
    assert allowed <= size + sum(gaps) * rate + 1e-6
    assert allowed >= min(len(gaps), size)


def test_an_empty_bucket_says_how_long_to_wait() -> None:
    clock = Clock()
    bucket = Bucket(1, rate=0.5, clock=clock)
    assert bucket.take() and not bucket.take()
    assert bucket.wait == pytest.approx(2.0)
    clock.now += bucket.wait
    assert bucket.take()


def test_each_limit_has_its_code_and_leaving_makes_room() -> None:
    door = Doorkeeper(LimitConfig(connections=3, per_address=2, entries_per_minute=60), Clock())
    with ExitStack() as inside:
        with door.admit("a"):
            inside.enter_context(door.admit("a"))
            with pytest.raises(Refused) as refused, door.admit("a"):
                pass
            assert (refused.value.code, refused.value.status) == ("limit.address", 429)
            inside.enter_context(door.admit("b"))
            with pytest.raises(Refused) as refused, door.admit("c"):
                pass
            assert (refused.value.code, refused.value.status) == ("limit.server", 503)
            assert refused.value.retry_after > 0
        inside.enter_context(door.admit("a"))  # the place of the one who left


def test_entries_of_an_address_are_paced() -> None:
    clock = Clock()
    door = Doorkeeper(LimitConfig(entries_per_minute=3), clock)
    for _ in range(3):
        with door.admit("a"):
            pass
    with pytest.raises(Refused) as refused, door.admit("a"):
        pass
    assert (refused.value.code, refused.value.status) == ("limit.entries", 429)
    with door.admit("b"):
        pass
    clock.now += refused.value.retry_after
    with door.admit("a"):
        pass


def test_memory_of_addresses_is_bounded_and_keeps_those_inside() -> None:
    door = Doorkeeper(LimitConfig(per_address=1), Clock())
    with door.admit("first"):
        for i in range(MAX_ADDRESSES + 50):
            with door.admit(f"visitor {i}"):
                pass
        assert len(door._visitors) == MAX_ADDRESSES
        with pytest.raises(Refused), door.admit("first"):
            pass
