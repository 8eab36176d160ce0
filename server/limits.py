"""How often and how many: buckets of messages, and the connections of one address."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .auth import Refused

MAX_ADDRESSES = 4_096  # remembered; the one unseen for longest is forgotten first


@dataclass(frozen=True, slots=True)
class LimitConfig:
    connections: int = 256  # open at once, of everyone
    per_address: int = 16  # open at once, of one address
    entries_per_minute: int = 60  # of one address


class Bucket:
    """Holds `size` tokens, refilled at `rate` a second; each thing allowed takes one."""

    def __init__(self, size: float, *, rate: float, clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds."""
        self._size, self._rate, self._clock = size, rate, clock
        self._tokens, self._seen = size, clock()

    def take(self) -> bool:
        now = self._clock()
        self._tokens = min(self._size, self._tokens + (now - self._seen) * self._rate)
        self._seen = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    @property
    def wait(self) -> float:
        """Seconds until there is a token again."""
        return max(0.0, 1.0 - self._tokens) / self._rate


@dataclass(slots=True)
class _Visitor:
    entries: Bucket
    connections: int = 0


class Doorkeeper:
    """Counts entries and open connections, in all and by address, in bounded memory."""

    def __init__(self, config: LimitConfig, clock: Callable[[], float]) -> None:
        self._config, self._clock = config, clock
        self._connections = 0
        self._visitors: OrderedDict[str, _Visitor] = OrderedDict()

    @contextmanager
    def admit(self, address: str) -> Iterator[None]:
        """Around one connection of `address`; raises Refused with 429 or 503 if it is one too many."""
        visitor = self._visitor(address)
        if not visitor.entries.take():
            wait = visitor.entries.wait
            raise Refused("limit.entries", "too many connections in a minute", status=429, retry_after=wait)
        if visitor.connections >= self._config.per_address:
            raise Refused("limit.address", "too many open connections of yours", status=429, retry_after=5.0)
        if self._connections >= self._config.connections:
            raise Refused("limit.server", "too many open connections", status=503, retry_after=5.0)
        visitor.connections += 1
        self._connections += 1
        try:
            yield
        finally:
            visitor.connections -= 1
            self._connections -= 1

    def _visitor(self, address: str) -> _Visitor:
        if address not in self._visitors:
            most = self._config.entries_per_minute
            self._visitors[address] = _Visitor(Bucket(most, rate=most / 60.0, clock=self._clock))
        self._visitors.move_to_end(address)
        if len(self._visitors) > MAX_ADDRESSES:
            # those with open connections stay: they are fewer than the connections that the server has at all
            del self._visitors[next(a for a, visitor in self._visitors.items() if visitor.connections == 0)]
        return self._visitors[address]
