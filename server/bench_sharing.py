"""What sharing one model is worth: sessions in one batch, one after the other, and in processes of their own."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

from model.threads import num_threads, use_threads
from model.world_model import WorldModel

from .bench import Figures, Stopwatch, open_worlds, peak_mb, play_section, wander
from .world import num_frames

WARM_UP = 3  # sections that are not counted
WAYS = ("batched", "in_turn", "processes")

Load = Callable[[], WorldModel]


@dataclass(frozen=True, slots=True)
class Pace:
    """How quickly one session went, and what its process took by then."""

    fps: float
    peak_mb: float


def bench_sharing(model: WorldModel, load: Load, *, sessions: Sequence[int], seconds: float) -> Figures:
    """Play so many sessions in each way for `seconds`, unpaced; `load`, which is pickled, makes the model again.

    `sharing.n4.batched.fps` is frames a second of each of 4 sessions in batches as large as the model takes them,
    `in_turn` of the same one section after the other, `processes` of 4 processes with a session each that share this
    one's threads and start together. `rss_mb` is the peak of a process, in all of them together for `processes`.
    `sharing.batched.full_rate_sessions` is for how many sessions the frames would be enough at the model's frame rate,
    at the count that gives most.
    """
    rate, figures = model.spec.frame_rate, {"sharing.frame_rate": model.spec.frame_rate}
    full = dict.fromkeys(WAYS, 0.0)
    for count in sessions:
        paces = {
            "batched": [play(model, count, seconds=seconds, batch=model.spec.max_batch)],
            "in_turn": [play(model, count, seconds=seconds, batch=1)],
            "processes": race(load, count, seconds=seconds),
        }
        for way, found in paces.items():
            fps = sum(pace.fps for pace in found) / len(found)
            figures[f"sharing.n{count}.{way}.fps"] = fps
            figures[f"sharing.n{count}.{way}.rss_mb"] = sum(pace.peak_mb for pace in found)
            full[way] = max(full[way], count * fps / rate)
    return figures | {f"sharing.{way}.full_rate_sessions": most for way, most in full.items()}


def play(model: WorldModel, count: int, *, seconds: float, batch: int) -> Pace:
    """So many sessions for so long, in batches of at most `batch`; the pace of each."""
    return _time(model, _warm(model, count, batch=batch), seconds)


def race(load: Load, count: int, *, seconds: float) -> list[Pace]:
    """So many processes with one session each, over the same seconds. Raises EOFError if one dies."""
    context = get_context("spawn")
    with ExitStack() as stack:
        ends = []
        for threads in _shares(num_threads(), count):
            here, there = context.Pipe()
            runner = context.Process(target=_run, args=(there, load, threads, seconds), daemon=True)
            runner.start()
            there.close()
            stack.callback(runner.join)
            ends.append(stack.enter_context(here))
        for end in ends:
            end.recv()
        for end in ends:
            end.send("go")
        return [end.recv() for end in ends]


def _run(end: Connection, load: Load, threads: int, seconds: float) -> None:
    """In a process of its own: say that it is ready, wait for the start, say how it went."""
    model = load()
    use_threads(threads)  # a model may choose its own when it is made
    turns = _warm(model, 1, batch=1)
    end.send("ready")
    end.recv()
    end.send(_time(model, turns, seconds))


def _warm(model: WorldModel, count: int, *, batch: int) -> Iterator[None]:
    turns = _turns(model, count, batch=batch)
    for _ in range(WARM_UP):
        next(turns)
    return turns


def _time(model: WorldModel, turns: Iterator[None], seconds: float) -> Pace:
    began, rounds, spent = time.perf_counter(), 0, 0.0
    while spent < seconds:
        next(turns)
        rounds += 1
        spent = time.perf_counter() - began
    return Pace(rounds * num_frames(model.spec) / spent, peak_mb())


def _turns(model: WorldModel, count: int, *, batch: int) -> Iterator[None]:
    """A section of every session each time."""
    worlds = open_worlds(model, count)
    for controls in wander(model.spec, count):
        for first in range(0, count, batch):
            rows = slice(first, first + batch)
            play_section(model, worlds[rows], controls[rows], Stopwatch(time.perf_counter))
        yield


def _shares(threads: int, count: int) -> list[int]:
    """Threads of each of `count` processes: as even as can be, one at least."""
    return [max(1, threads // count + (number < threads % count)) for number in range(count)]
