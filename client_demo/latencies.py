"""Action-to-photon: from stating an input to having the first frame whose receipt says that it was applied."""

import time
from collections.abc import Callable

MOST_ASKED = 512
MOST_REPORTED = 64  # of one message
LONGEST = 60_000.0  # milliseconds
REPORT_EVERY = 1.0  # seconds


class Latencies:
    """Inputs that wait for their frame, and the times of those that got it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._asked: dict[int, float] = {}
        self._answered: list[float] = []
        self._reported_at = clock()

    def asked(self, seq: int) -> None:
        if len(self._asked) < MOST_ASKED:
            self._asked[seq] = self._clock()

    def shown(self, applied_seq: int) -> None:
        now = self._clock()
        for seq in [seq for seq in self._asked if seq <= applied_seq]:
            self._answered.append(min(LONGEST, 1000 * (now - self._asked.pop(seq))))
        del self._answered[:-MOST_REPORTED]

    def due(self) -> list[float]:
        """Milliseconds of those answered since the last report; empty if there are none, or it is too early for one."""
        if not self._answered or self._clock() - self._reported_at < REPORT_EVERY:
            return []
        answered, self._answered, self._reported_at = self._answered, [], self._clock()
        return answered
