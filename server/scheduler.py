"""Whose turn it is: sessions join and leave the model's batch between denoise steps, the most urgent first."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Turn:
    begin_at: float
    deadline: float
    alone: bool


class Scheduler(Generic[Key]):
    """Picks the sections of many sessions that share one model.

    A session asks for a turn with `wait`, is in `running` once `admit` let it in, and ends its turn with
    `leave`. Among those that may begin, the earliest deadline goes first; a deadline does not move while it
    waits and a served session's next one lies later, so everyone gets a turn.
    """

    def __init__(self, *, max_batch: int) -> None:
        self._max_batch = max_batch
        self._waiting: dict[Key, _Turn] = {}
        self._running: dict[Key, _Turn] = {}

    @property
    def running(self) -> tuple[Key, ...]:
        """The sessions of the next denoise step, in the order in which they came."""
        return tuple(self._running)

    def narrow(self, max_batch: int) -> None:
        """Let in fewer at once from now on."""
        self._max_batch = min(self._max_batch, max_batch)

    def wait(self, key: Key, *, begin_at: float, deadline: float, alone: bool = False) -> None:
        """Ask for a turn, not before `begin_at`; `alone` shares no batch (with a session that may break it)."""
        assert key not in self._running, "a session has one section in flight"
        self._waiting[key] = _Turn(begin_at, deadline, alone)

    def leave(self, key: Key) -> None:
        """End or forgo a turn."""
        self._waiting.pop(key, None)
        self._running.pop(key, None)

    def admit(self, now: float) -> list[Key]:
        """Let in who may begin now, as far as there is room; returns the newcomers, most urgent first."""
        due = [key for key, turn in self._waiting.items() if turn.begin_at <= now]
        newcomers: list[Key] = []
        for key in sorted(due, key=lambda key: self._waiting[key].deadline):
            if not self._has_room_for(self._waiting[key]):
                break
            self._running[key] = self._waiting.pop(key)
            newcomers.append(key)
        return newcomers

    def _has_room_for(self, turn: _Turn) -> bool:
        if turn.alone or any(other.alone for other in self._running.values()):
            return not self._running
        return len(self._running) < self._max_batch

    def wake_at(self, *, after: float) -> float | None:
        """When the next waiting session may begin of those that might not at `after`; None when there is none.

        Those who might begin and were not let in wait for room.
        """
        return min((turn.begin_at for turn in self._waiting.values() if turn.begin_at > after), default=None)
