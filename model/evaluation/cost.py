"""What a step costs as the history grows: packed by a schedule, as a sliding window, and in full.

Each figure is measured in a process of its own, so that the peak of its memory is its own, and under a limit: where
full context does not fit there is no figure. Latents are random, weights are the model's. Pictures are decoded
beforehand, since that is the same for all.
"""

import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from ..packing.families import sliding_window
from ..rooms.context import Cache, Shown
from ..rooms.dit import KV
from ..rooms.state import RoomsState
from ..rooms.weights import SHIPPED, load_weights
from ..rooms.world import SCHEDULE, Rooms, fast_dtype
from ..world_model import History

WAYS = ("packed", "window", "full")
LENGTHS = (10, 100, 1_000, 10_000, 100_000)
_POOL = 40  # different latents
_MOST_FRAMES = 9_999  # of one segment of a schedule


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured."""

    way: str  # of WAYS
    length: int  # of the history, in latents
    weights: Path = SHIPPED
    limit: int = 4 << 30  # bytes that it may take beyond the weights
    steps: int = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """A figure of one setting; without time and memory if it did not fit."""

    way: str
    length: int
    tokens: int  # of the context
    ms: float | None = None  # of one core for a frame: its context and two denoise steps, the median
    mb: float | None = None  # at the peak, beyond the loaded weights


def schedule_for(way: str, length: int) -> str:
    """The schedule of a way: the window has as many whole frames as fit the tokens of the packed one."""
    if way == "packed":
        return SCHEDULE
    if way == "window":
        return str(sliding_window(288, grid=(16, 16), target=1))
    parts = [_MOST_FRAMES] * (length // _MOST_FRAMES) + [length % _MOST_FRAMES]
    return "".join(f"f{part}k1" for part in parts if part) + "_g1"


def costs(settings: Sequence[Setting]) -> Iterator[Cost]:
    """Measure one after the other, each in a fresh process."""
    for setting in settings:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            yield pool.submit(measure, setting).result()


def measure(setting: Setting) -> Cost:
    """Measure in this process, whose memory is limited from then on."""
    torch.set_num_threads(1)
    model = _model(setting)
    cost = Cost(setting.way, setting.length, model.spec.context_tokens)
    pool = np.random.default_rng(0).standard_normal((_POOL, *model.spec.latent_shape)).astype(np.float16)
    for latent in pool:
        model.looks.of([latent])
    _forget_peak()
    before = _memory("VmRSS")
    resource.setrlimit(resource.RLIMIT_DATA, (_memory("VmData") + setting.limit, resource.RLIM_INFINITY))
    try:
        ms = _time(model, setting, pool)
    except MemoryError:
        return cost
    except RuntimeError as error:  # torch's own way to say so
        if "allocate memory" not in str(error):
            raise
        return cost
    return Cost(cost.way, cost.length, cost.tokens, ms, (_memory("VmHWM") - before) / 2**20)


def _time(model: Rooms, setting: Setting, pool: np.ndarray, *, clock: Callable[[], float] = time.process_time) -> float:
    """Milliseconds of a frame, in the middle of `steps` of them after two that do not count.

    They are this process's own, which on one core is what matters, whatever else the machine does.
    """
    state = model.open(seed=0)
    state.sections = setting.length - 1
    _fill(model, state.cache, _history(model, setting.length, pool))
    control = np.array([[0.5, 0.0, 0.2]], np.float32)
    spent = []
    for now in range(setting.length, setting.length + setting.steps + 2):
        history, start = _history(model, now, pool), clock()
        _play(model, state, control, history)
        spent.append(clock() - start)
    return 1000 * statistics.median(spent[2:])


def _play(model: Rooms, state: RoomsState, control: np.ndarray, history: History) -> None:
    jobs = model.begin([state], [control], [history])
    while jobs[0].steps_left:
        model.advance(jobs)
    model.finish(jobs)


def _fill(model: Rooms, cache: Cache, history: History) -> None:
    """Have the features of a whole history, as a session has that came so far; equal latents have equal ones."""
    known: Cache = {}
    for group in model.layout.groups:
        indices = [int(history.indices[slot]) for slot in group.slots]
        content = group.kind, tuple(index % _POOL for index in indices)
        if content not in known and history.valid[list(group.slots)].all():
            part: Cache = {}
            with torch.inference_mode():
                model.contexts.encode_missing([Shown([group], history, part)])
            [known[content]] = part.values()
        if content in known:
            cache[group.kind, tuple(indices)] = KV(*(x.clone() for x in known[content]))


def _history(model: Rooms, now: int, pool: np.ndarray) -> History:
    """All slots filled as far as `now` latents go; what is recalled comes from the session's beginning."""
    spec = model.spec
    recent = np.arange(now - spec.num_recent, now)
    valid = np.concatenate([np.ones(1 + spec.num_recalled, bool), recent >= 0])
    indices = np.concatenate([[0], np.arange(1, 1 + spec.num_recalled) * now // 10, recent.clip(0)])
    poses = np.stack([np.sin(indices / 9), np.cos(indices / 7), indices / 5], 1).astype(np.float32)
    latents = np.where(valid[:, None, None, None], pool[indices % len(pool)], np.float16(0))
    return History(latents, indices.astype(np.int64), np.where(valid[:, None], poses, np.float32(0)), valid)


def _model(setting: Setting) -> Rooms:
    networks, starts = load_weights(setting.weights)
    return Rooms(networks, starts, dtype=fast_dtype("cpu"), schedule=schedule_for(setting.way, setting.length))


def _memory(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"expected {name} in /proc/self/status; this is measured on Linux only")


def _forget_peak() -> None:
    """Let VmHWM count from now on (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def plot_costs(found: Sequence[Cost], path: Path) -> None:
    """Time and memory against the length of the history, as multiples of what is packed at the shortest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, name, title in zip(figure.subplots(1, 2), ("ms", "mb"), ("time of a frame", "peak memory"), strict=True):
        unit = next(getattr(cost, name) for cost in found if cost.way == "packed" and cost.ms is not None)
        for way in WAYS:
            points = [(cost.length, getattr(cost, name) / unit) for cost in found if cost.way == way and cost.ms]
            axes.loglog(*zip(*points, strict=True), marker="o", label=way)
        axes.set(xlabel="history, latents", title=f"{title} (packed at {found[0].length} = 1)")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
