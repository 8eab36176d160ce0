"""Between one producer and one watcher: bounded boxes in which the late lose the old and delay nobody."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .encode import Picture
from .protocol import Message, Receipt

NUM_PICTURES = 4  # H.264 pictures that wait; of pictures that stand alone only the newest does
NUM_MESSAGES = 64

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture on its way to one who watches. Its receipt lacks what only the sending knows: `t_sent` and `rtp`."""

    picture: Picture
    receipt: Receipt
    timestamp: int  # of the 90 kHz clock
    made: float  # seconds of the server's clock


class _Box(Generic[Item]):
    """A bounded queue for one reader at a time."""

    def __init__(self, size: int) -> None:
        self._items: deque[Item] = deque(maxlen=size)
        self._filled = asyncio.Event()

    async def get(self) -> Item:
        """Wait for the oldest item; it is lost to nobody if the wait is cancelled."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        return self._items.popleft()

    def _add(self, item: Item) -> None:
        self._items.append(item)
        self._filled.set()


class Messages(_Box[Message]):
    """Messages to one client; when too many wait, the oldest is lost (they are reports, each newer than the last)."""

    def __init__(self) -> None:
        super().__init__(NUM_MESSAGES)

    def put(self, message: Message) -> None:
        self._add(message)


class Pictures(_Box[Shot]):
    """Pictures to one watcher. A watcher too late for H.264 goes on at the next key frame, which it asks for."""

    def __init__(self, *, needs_key: Callable[[], None], overflowed: Callable[[int], None]) -> None:
        """`overflowed` is told how many pictures the watcher lost."""
        super().__init__(NUM_PICTURES)
        self._needs_key, self._overflowed = needs_key, overflowed
        self._awaits_key = True  # whoever joins can start at a key frame only

    def put(self, shot: Shot) -> None:
        picture = shot.picture
        limit = NUM_PICTURES if picture.codec == "h264" else 1
        lost = len(self._items) if len(self._items) >= limit else 0
        if lost:
            self._items.clear()
            self._awaits_key = True
        if picture.key:
            self._awaits_key = False
        if not self._awaits_key:
            self._add(shot)
        elif lost:
            self._needs_key()
        if lost:
            self._overflowed(lost)
