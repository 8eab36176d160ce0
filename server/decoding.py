"""Latents to frames beside the engine's thread: a section is decoded while its session's next one is denoised."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np

from model.world_model import Section, WorldModel

from .failure import Failure, attempt
from .line import Line


@dataclass(frozen=True, slots=True, eq=False)
class Undecoded:
    """A finished section of a session, and the model's state that it was made with: a failure gives it another."""

    line: Line
    state: Any
    section: Section


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Sections of some sessions, decoded in one batch: their frames (n, H, W, 3), or why there are none."""

    lines: Sequence[Line]
    shown: Sequence[tuple[Line, np.ndarray]]  # empty after a failure
    failure: Failure | None
    seconds: float


def decode(model: WorldModel, batch: Sequence[Undecoded]) -> Decoded:
    """Never raises what the model fails at."""
    began, lines = time.perf_counter(), [one.line for one in batch]
    found = attempt(partial(_frames, model, batch), sessions=[line.link.id for line in lines])
    failure, shown = (found, []) if isinstance(found, Failure) else (None, found)
    return Decoded(lines, shown, failure, time.perf_counter() - began)


def _frames(model: WorldModel, batch: Sequence[Undecoded]) -> list[tuple[Line, np.ndarray]]:
    frames = model.decode([one.state for one in batch], [one.section for one in batch])
    return list(zip([one.line for one in batch], frames, strict=True))


class Decoding:
    """One thread that decodes in the order of `put`. All methods are for the engine's thread.

    It holds a section of each session at most: whoever puts one in waits with the session's next until `collect` has
    given it back. On a GPU it shares the engine's stream: kernels of both take turns as they are launched, and neither
    needs events to see what the other wrote, nor memory that the allocator keeps for one stream only.
    """

    def __init__(self, model: WorldModel, *, done: Callable[[], None]) -> None:
        """`done` is called in the thread when there is something to collect."""
        self._model, self._done = model, done
        self._waiting: SimpleQueue[Sequence[Undecoded] | None] = SimpleQueue()  # bounded by the sessions
        self._decoded: deque[Decoded] = deque()
        self._num_pending = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="decoding", daemon=True)

    @property
    def is_busy(self) -> bool:
        """Whether something was put in that has not been collected."""
        return self._num_pending > 0

    def put(self, batch: Sequence[Undecoded]) -> None:
        if self._thread.ident is None:  # most models never need it
            self._thread.start()
        self._num_pending += 1
        self._waiting.put(batch)

    def collect(self) -> Iterator[Decoded]:
        """What has been decoded since the last time."""
        while self._decoded:
            self._num_pending -= 1
            yield self._decoded.popleft()

    def stop(self) -> None:
        """End the thread with the decoding that it is in; the rest is dropped."""
        self._stopped = True
        if self._thread.ident is not None:
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (batch := self._waiting.get()) is not None and not self._stopped:
            self._decoded.append(decode(self._model, batch))
            del batch  # it would keep its sessions' states until the next one comes
            self._done()
