"""Requests from an event loop to a thread, and controls between the two."""

import asyncio
import threading
from collections.abc import Generator

import pytest

from server.controls import MAX_CARRY
from server.link import MAX_REQUESTS, BusyError, Requests, SharedControls
from server.protocol import Input

from .tiny_model import SCHEMA

GONE = BusyError("server.leaving", "gone", retry_after=2.0)


async def served(requests: Requests, times: int = 1) -> None:
    """Serve from another thread, as the engine does."""

    def serve() -> None:
        for _ in range(times):
            requests.serve(1.0)

    await asyncio.to_thread(serve)


async def test_an_answer_comes_back_from_the_thread() -> None:
    requests = Requests()
    asked = asyncio.ensure_future(requests.ask(threading.get_ident))
    await asyncio.sleep(0)
    await served(requests)
    assert await asked != threading.get_ident()


async def test_an_error_comes_back_and_the_thread_goes_on() -> None:
    requests = Requests()
    asked = [asyncio.ensure_future(requests.ask(lambda: 1 // 0)), asyncio.ensure_future(requests.ask(lambda: 7))]
    await asyncio.sleep(0)
    await served(requests)
    with pytest.raises(ZeroDivisionError):
        await asked[0]
    assert await asked[1] == 7


async def test_requests_are_served_in_the_order_of_asking() -> None:
    requests, seen = Requests(), []
    for i in range(5):
        requests.post(lambda i=i: seen.append(i))
    await served(requests)
    assert seen == [0, 1, 2, 3, 4]


def counting(seen: list[str], name: str, num_slices: int) -> Generator[None, None, str]:
    for i in range(num_slices):
        seen.append(f"{name}{i}")
        yield
    return name


async def test_long_work_goes_slice_by_slice_with_others_in_between() -> None:
    requests, seen = Requests(), []
    asked = [asyncio.ensure_future(requests.ask_in_slices(lambda n=n: counting(seen, n, 3))) for n in "ab"]
    await asyncio.sleep(0)
    for i in range(8):
        requests.post(lambda i=i: seen.append(f"request {i}"))
        await served(requests)
        assert requests.has_more == (i < 7)
    assert await asyncio.gather(*asked) == ["a", "b"]
    assert [entry for entry in seen if "request" not in entry] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert all("request" in entry for entry in seen[::2])


async def test_who_gave_up_waiting_is_not_served() -> None:
    requests, seen = Requests(), []
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(requests.ask(lambda: seen.append("served")), 0.01)
    await served(requests)
    assert seen == []


async def test_too_many_requests_are_refused() -> None:
    requests = Requests()
    for _ in range(MAX_REQUESTS):
        requests.post(lambda: None)
    with pytest.raises(BusyError) as refusal:
        await requests.ask(lambda: None)
    assert (refusal.value.code, refusal.value.retry_after) == ("server.busy", 1.0)
    requests.wake()


async def test_closing_refuses_what_waits_what_is_begun_and_what_comes() -> None:
    requests = Requests()
    begun = asyncio.ensure_future(requests.ask_in_slices(lambda: counting([], "a", 9)))
    await asyncio.sleep(0)
    await served(requests)
    waiting = asyncio.ensure_future(requests.ask(lambda: None))
    given_up = requests.post(lambda: None)
    given_up.cancel()
    await asyncio.sleep(0)
    requests.close(GONE)
    late = asyncio.ensure_future(requests.ask(lambda: None))
    for refused in (begun, waiting, late):
        with pytest.raises(BusyError, match="gone"):
            await asyncio.wait_for(refused, 10.0)
    requests.wake()


def test_controls_are_whole_whichever_thread_fills_them() -> None:
    controls = SharedControls(SCHEMA)
    rounds = int(MAX_CARRY) * 100

    def play() -> None:
        for seq in range(1, rounds + 1):
            controls.receive(Input(seq=seq, pointer=(float(seq), 0.0)), 0.0)

    thread = threading.Thread(target=play)
    thread.start()
    taken = []
    while thread.is_alive():
        taken += controls.take(0.0, num_frames=3)
    thread.join()
    taken += controls.take(0.0, num_frames=20)
    assert taken[-1].seq == rounds
    assert MAX_CARRY - 1e-3 <= sum(applied.vector[0] for applied in taken) <= 0.125 * rounds + 1e-3
    controls.hand_over()
    assert controls.take(0.0, num_frames=1)[0].seq == -1
