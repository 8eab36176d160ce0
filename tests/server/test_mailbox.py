"""Bounded boxes: who is late loses old pictures, never order, and goes on where a decoder can."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.encode import Codec, Picture
from server.mailbox import NUM_MESSAGES, NUM_PICTURES, Messages, Pictures, Shot
from server.protocol import Pong, Receipt

PUT, GET = "put", "get"


def shot(index: int, *, codec: Codec = "h264", key: bool = False) -> Shot:
    receipt = Receipt(frame=index, applied_seq=0, client_ts=0, t_recv=0, t_applied=0, t_sent=0)
    return Shot(Picture(codec, key or codec != "h264", 2, 2, b"x"), receipt, timestamp=index, made=0.0)


class Notes:
    def __init__(self) -> None:
        self.asked = 0
        self.lost = 0

    def box(self) -> Pictures:
        return Pictures(needs_key=self.ask, overflowed=self.lose)

    def ask(self) -> None:
        self.asked += 1

    def lose(self, count: int) -> None:
        self.lost += count


async def waiting(box: Pictures) -> list[int]:
    return [(await box.get()).receipt.frame for _ in range(len(box._items))]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=80))
async def test_an_h264_reader_can_decode_all_it_gets(steps: list[tuple[bool, int]]) -> None:
    """Each picture follows its predecessor or is a key frame, whatever the reader's speed."""
    notes = Notes()
    box = notes.box()
    got: list[Shot] = []
    for index, (key, num_reads) in enumerate(steps):
        box.put(shot(index, key=key or notes.asked > 0))
        notes.asked = 0
        assert len(box._items) <= NUM_PICTURES
        got += [await box.get() for _ in range(min(num_reads, len(box._items)))]
    for before, after in zip(got, got[1:], strict=False):
        assert after.picture.key or after.receipt.frame == before.receipt.frame + 1
    assert not got or got[0].picture.key


async def test_a_joiner_waits_for_a_key_frame_and_has_lost_nothing() -> None:
    notes = Notes()
    box = notes.box()
    for index, key in enumerate([False, False, True, False]):
        box.put(shot(index, key=key))
    assert await waiting(box) == [2, 3]
    assert (notes.asked, notes.lost) == (0, 0)


async def test_a_late_reader_asks_for_a_key_frame_once_and_goes_on_there() -> None:
    notes = Notes()
    box = notes.box()
    for index in range(10):
        box.put(shot(index, key=index in (0, 7)))
    assert await waiting(box) == [7, 8, 9]
    assert (notes.asked, notes.lost) == (1, NUM_PICTURES)


async def test_of_pictures_that_stand_alone_the_newest_waits() -> None:
    notes = Notes()
    box = notes.box()
    for index in range(5):
        box.put(shot(index, codec="jpeg"))
    assert await waiting(box) == [4]
    assert (notes.asked, notes.lost) == (0, 4)


async def test_a_waiting_reader_wakes_and_a_cancelled_one_takes_nothing() -> None:
    box = Messages()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(box.get(), 0.01)
    waits = asyncio.ensure_future(box.get())
    await asyncio.sleep(0.01)
    assert not waits.done()
    for number in (1.0, 2.0):
        box.put(Pong(ts=number))
    assert await asyncio.wait_for(waits, 10) == Pong(ts=1.0)
    assert await box.get() == Pong(ts=2.0)


async def test_of_too_many_messages_the_oldest_are_lost() -> None:
    box = Messages()
    for i in range(NUM_MESSAGES + 3):
        box.put(Pong(ts=float(i)))
    assert [await box.get() for _ in range(NUM_MESSAGES)] == [Pong(ts=float(i + 3)) for i in range(NUM_MESSAGES)]
