"""The client for code without asyncio: a thread reads, and keeps the newest frame."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, Self, TypeVar

from .client import Client, Frame

T = TypeVar("T")


class SyncClient:
    """`Client` behind blocking calls. Slow callers skip frames; `client` has the newest messages.

    with SyncClient("ws://127.0.0.1:8000/ws", seed=7) as world:
        seq = world.steer(axes={"turn": 1.0})
        frame = world.frame(lambda frame: frame.receipt.applied_seq >= seq)
    """

    def __init__(self, url: str, **place: Any) -> None:
        self.client = Client(url, **place)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rewander-client", daemon=True)
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._reader: Future[None]

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._thread.start()
            undo.callback(self._stop)
            self._run(self.client.__aenter__())
            undo.pop_all()
        self._reader = asyncio.run_coroutine_threadsafe(self._read(), self._loop)
        self._reader.add_done_callback(lambda _: self._tell())
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.cancel()
        self._run(self.client.__aexit__())
        self._stop()

    def frame(self, wanted: Callable[[Frame], bool] = lambda _: True, *, timeout: float = 30.0) -> Frame:
        """The newest frame that is `wanted` and was not returned before.

        Raises TimeoutError after `timeout` seconds without one, and whatever ended the connection.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._reader.done() or self._has(wanted), timeout)
            if not self._has(wanted) or self._newest is None:
                if self._reader.done():
                    self._reader.result()
                raise TimeoutError(f"expected a wanted frame within {timeout} s, got none")
            frame, self._newest = self._newest, None
            return frame

    def steer(self, **state: Any) -> int:
        """As `Client.steer`."""
        return self._run(self.client.steer(**state))

    def send(self, name: str, **fields: Any) -> None:
        """As `Client.send`."""
        self._run(self.client.send(name, **fields))

    def _has(self, wanted: Callable[[Frame], bool]) -> bool:
        return self._newest is not None and wanted(self._newest)

    async def _read(self) -> None:
        async for frame in self.client.frames():
            self._tell(frame)

    def _tell(self, frame: Frame | None = None) -> None:
        with self._changed:
            self._newest = frame or self._newest
            self._changed.notify_all()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
