"""Frames to readers on a real event loop: the newest to each, in time, to the end."""

import asyncio
import time

import numpy as np
import pytest

from server.feed import MOST_WAITING, Feed, Mailbox, Produced, SessionEndedError
from server.session import Recalled

NOTHING = Recalled((), (), (), ())


def produced(index: int) -> Produced:
    return Produced(index, np.full((2, 2, 3), index, np.uint8), -1, 0.0, 0.0, 0.0, NOTHING, 1.0)


def feed() -> Feed:
    return Feed(clock=time.monotonic, changed=lambda: None)


def reader_of(source: Feed) -> Mailbox:
    mailbox = Mailbox(source)
    mailbox.open()
    return mailbox


def show(target: Feed, *indices: int) -> None:
    target.release([(0.0, produced(index)) for index in indices])


async def shown_until(mailbox: Mailbox, last: int) -> dict[int, float]:
    """When each frame was seen, up to that one; on a busy machine some may be missed."""
    times: dict[int, float] = {}
    async with asyncio.timeout(10):
        while last not in times:
            shown = await mailbox.get()
            times[shown.index] = time.monotonic()
    return times


async def test_every_reader_gets_the_newest_and_a_slow_one_delays_nobody() -> None:
    source = feed()
    quick, slow = reader_of(source), reader_of(source)
    seen = []
    for index in range(3):
        show(source, index)
        seen.append((await quick.get()).index)
    assert seen == [0, 1, 2]
    assert (await slow.get()).index == 2
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(slow.get(), 0.01)


async def test_who_joins_later_has_a_frame_at_once() -> None:
    source = feed()
    show(source, 5)
    assert (await asyncio.wait_for(reader_of(source).get(), 1.0)).index == 5


async def test_a_frame_wakes_a_reader_that_waits() -> None:
    source = feed()
    waiting = asyncio.ensure_future(reader_of(source).get())
    await asyncio.sleep(0)
    show(source, 1)
    assert (await asyncio.wait_for(waiting, 1.0)).index == 1


async def test_a_cancelled_wait_loses_no_frame() -> None:
    source = feed()
    mailbox = reader_of(source)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(mailbox.get(), 0.01)
    show(source, 1)
    assert (await mailbox.get()).index == 1


async def test_frames_of_a_section_come_at_their_times() -> None:
    source = feed()
    mailbox = reader_of(source)
    begun = time.monotonic()
    source.release([(begun + 0.03 * i, produced(i)) for i in range(4)])
    times = await shown_until(mailbox, 3)
    assert list(times) == sorted(times)
    assert all(at - begun >= 0.03 * index - 0.001 for index, at in times.items())


async def test_a_frame_that_is_due_does_not_pass_one_that_waits() -> None:
    source = feed()
    mailbox = reader_of(source)
    due = time.monotonic() + 0.02
    source.release([(due, produced(0))])
    show(source, 1)
    assert (await mailbox.get()).index == 1
    assert time.monotonic() >= due


async def test_frames_of_a_world_that_was_left_are_not_shown() -> None:
    source = feed()
    mailbox = reader_of(source)
    source.release([(time.monotonic() + 0.01, produced(0))])
    source.clear()
    await asyncio.sleep(0.03)
    show(source, 1)
    assert (await mailbox.get()).index == 1


async def test_the_end_comes_after_the_last_frame_and_to_those_who_come_later() -> None:
    source = feed()
    mailbox = reader_of(source)
    show(source, 3)
    source.end(SessionEndedError("session.closed", "expected more, got the end"))
    assert (await mailbox.get()).index == 3
    for reader in (mailbox, mailbox, reader_of(source)):
        if reader is not mailbox:
            await reader.get()
        with pytest.raises(SessionEndedError) as ended:
            await reader.get()
        assert ended.value.code == "session.closed"


async def test_the_end_wakes_a_reader_and_ends_an_iteration() -> None:
    source = feed()

    async def read(mailbox: Mailbox) -> list[int]:
        return [item.index async for item in mailbox]

    reading = asyncio.ensure_future(read(reader_of(source)))
    await asyncio.sleep(0)
    show(source, 1)
    await asyncio.sleep(0)
    source.end(SessionEndedError("session.closed", ""))
    assert await asyncio.wait_for(reading, 1.0) == [1]


async def test_readers_are_counted_as_they_come_and_go() -> None:
    counts: list[int] = []
    source = Feed(clock=time.monotonic, changed=lambda: counts.append(source.num_readers))
    with reader_of(source), reader_of(source) as second:
        second.close()
    assert counts == [1, 2, 1, 1, 0]


async def test_what_nobody_has_seen_waits_for_who_comes_back() -> None:
    source = feed()
    with reader_of(source) as mailbox:
        now = time.monotonic()
        source.release([(now + 0.02 * i, produced(i)) for i in range(3)])
        assert (await mailbox.get()).index == 0
    source.release([(now + 0.02 * i, produced(i)) for i in range(3, 6)])  # that was in flight
    await asyncio.sleep(0.15)
    assert source.newest is not None and source.newest.index == 0
    with reader_of(source) as mailbox:
        times = await shown_until(mailbox, 5)
        assert next(iter(times)) == 0 and list(times) == sorted(times)
        assert times[5] - times[0] >= 0.09  # one by one


async def test_frames_of_one_who_plays_unseen_do_not_pile_up() -> None:
    source = feed()
    for index in range(10):
        source.release([(time.monotonic(), produced(2 * index)), (time.monotonic(), produced(2 * index + 1))])
        assert len(source._waiting) <= 2 * MOST_WAITING
    assert (await asyncio.wait_for(reader_of(source).get(), 1.0)).index >= 14


async def test_a_mailbox_that_was_closed_opens_again_and_its_reader_never_knew() -> None:
    source = feed()
    mailbox = reader_of(source)
    reading = asyncio.ensure_future(mailbox.get())
    await asyncio.sleep(0)
    mailbox.close()
    show(source, 4)
    await asyncio.sleep(0.01)
    assert not reading.done()
    mailbox.open()
    assert (await asyncio.wait_for(reading, 1.0)).index == 4
