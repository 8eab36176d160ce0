"""What the event loop and the engine's thread share, and how the first asks the second to do something."""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from model.world_model import ControlSchema

from .controls import Applied, Controls
from .feed import Feed
from .protocol import Input

Result = TypeVar("Result")

MAX_REQUESTS = 1_024


class BusyError(Exception):
    """The engine takes no more of this; come back after `retry_after` seconds. `code` goes to the client."""

    def __init__(self, code: str, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class SharedControls:
    """Controls that one thread fills and another takes; see `Controls`."""

    def __init__(self, schema: ControlSchema) -> None:
        self._controls = Controls(schema)
        self._lock = threading.Lock()

    def receive(self, message: Input, now: float) -> None:
        with self._lock:
            self._controls.receive(message, now)

    def hand_over(self) -> None:
        with self._lock:
            self._controls.hand_over()

    def take(self, now: float, *, num_frames: int) -> list[Applied]:
        with self._lock:
            return [self._controls.take(now) for _ in range(num_frames)]


@dataclass(slots=True, eq=False)
class Link:
    """One session, as far as both threads know it. The event loop's side writes the fields, the engine reads them."""

    id: str
    controls: SharedControls
    feed: Feed
    loop: asyncio.AbstractEventLoop
    player_gone_at: float | None  # None while there is a player
    handovers: int = 0  # of the controls, from one client to another

    @property
    def is_attended(self) -> bool:
        """Whether anyone sees the frames: a player who still connects does not, and the world waits for it."""
        return self.feed.num_readers > 0

    @property
    def is_wanted(self) -> bool:
        """Whether anyone sees the frames, or is about to."""
        return self.is_attended or self.player_gone_at is None

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Call on the event loop's side from the engine's."""
        self.loop.call_soon_threadsafe(function, *args)


class Requests:
    """Functions for the engine's thread to run between the model's steps, in the order of asking."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue(MAX_REQUESTS)
        self._sliced: deque[tuple[Generator[None, None, Any], Future[Any]]] = deque()
        self._refusal: BusyError | None = None
        self._lock = threading.Lock()

    @property
    def has_more(self) -> bool:
        """Whether `serve` left something begun."""
        return bool(self._sliced)

    def post(self, function: Callable[[], Any]) -> Future[Any]:
        """Have it run and go on; raises BusyError if too much waits already, or the engine has ended."""
        future: Future[Any] = Future()
        with self._lock:
            if self._refusal is not None:
                raise self._refusal
            try:
                self._waiting.put_nowait((function, future))
            except queue.Full as full:
                raise BusyError("server.busy", "too many requests wait", retry_after=1.0) from full
        return future

    def wake(self) -> None:
        """Have the engine look at its sessions again."""
        with suppress(BusyError):  # if so much waits it is awake, or it has ended
            self.post(lambda: None)

    async def ask(self, function: Callable[[], Result]) -> Result:
        """What it returns, or raises."""
        answer: Result = await asyncio.wrap_future(self.post(function))
        return answer

    async def ask_in_slices(self, function: Callable[[], Generator[None, None, Result]]) -> Result:
        """What a generator returns that has other requests and the model's steps run between its slices."""
        answer: Result = await asyncio.wrap_future(self.post(function))
        return answer

    def serve(self, timeout: float | None) -> None:
        """Wait for requests for at most `timeout` seconds (None: until one comes), then run all, and one slice more."""
        with suppress(queue.Empty):
            self._begin(*self._waiting.get(timeout=timeout))
            while True:
                self._begin(*self._waiting.get_nowait())
        if self._sliced:
            slices, future = self._sliced.popleft()
            self._settle(future, lambda: _continued(slices))

    def close(self, refusal: BusyError) -> None:
        """Refuse all that waits and all that comes."""
        with self._lock:
            self._refusal = refusal
        while self._sliced:
            self._sliced.popleft()[1].set_exception(refusal)
        with suppress(queue.Empty):
            while True:
                _, future = self._waiting.get_nowait()
                if future.set_running_or_notify_cancel():
                    future.set_exception(refusal)

    def _begin(self, function: Callable[[], Any], future: Future[Any]) -> None:
        if future.set_running_or_notify_cancel():
            self._settle(future, function)

    def _settle(self, future: Future[Any], function: Callable[[], Any]) -> None:
        try:
            result = function()
        except Exception as error:  # noqa: BLE001 - the engine's thread: whoever asked is told, and the thread lives
            future.set_exception(error)
            return
        if isinstance(result, Generator):
            self._sliced.append((result, future))
        else:
            future.set_result(result)


def _continued(slices: Generator[None, None, Result]) -> Result | Generator[None, None, Result]:
    """Run one slice: the generator itself if there are more, else what it returned."""
    try:
        next(slices)
    except StopIteration as done:
        result: Result = done.value
        return result
    return slices
