"""What the model fails at, caught where the engine's threads call it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")

MAX_REASON = 200  # characters: CUDA explains itself at length

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure, without its traceback: the frames on it would keep the tensors that were too many."""

    reason: str
    is_out_of_memory: bool = False


def attempt(stage: Callable[[], Result], *, sessions: Sequence[str]) -> Result | Failure:
    """Run a stage for these sessions: what it returns, or what it failed at, which is logged."""
    try:
        return stage()
    except Exception as error:  # noqa: BLE001 - the engine's threads: its sessions are told, and the thread lives
        logger.exception("the model failed at %d sessions", len(sessions), extra={"session": " ".join(sessions)})
        return failure_of(error)


def failure_of(error: Exception) -> Failure:
    """With the first line of what it says."""
    said = str(error).partition("\n")[0][:MAX_REASON]
    kinds = {kind.__name__ for kind in type(error).__mro__}  # by name: torch stays behind the model interface
    is_out_of_memory = bool(kinds & {"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in said
    return Failure(f"{type(error).__name__}: {said}" if said else type(error).__name__, is_out_of_memory)
