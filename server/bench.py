"""How fast a model plays here: frames a second alone and side by side, where time goes, whether it stays flat."""

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from model.world_model import ModelSpec, WorldModel

from .heap import Heap
from .session import expected_poses, next_histories
from .world import Opening, World, num_frames

WARM_UP = 10  # frames that are not counted
STRETCH = 20  # frames
CAPACITY = 4096  # of each session's memory, the engine's default

Figures = dict[str, float]


@dataclass(slots=True)
class Stopwatch:
    """Seconds that each stage took, by name."""

    clock: Callable[[], float]
    laps: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = self.clock()
        yield
        self.laps.setdefault(name, []).append(self.clock() - start)

    def median_ms(self, name: str) -> float:
        return 1000 * float(np.median(self.laps[name][WARM_UP:]))


def bench_generation(
    model: WorldModel, *, sessions: int, frames: int, clock: Callable[[], float] = time.perf_counter
) -> Figures:
    """Play `sessions` worlds in one batch, unpaced, for `frames` frames of wandering controls.

    `generate.n1.fps` is frames a second of each session, by the median over stretches of STRETCH frames, for not all
    frames take as long; `frame_p95_ms` is what one frame in twenty takes longer than. `sample_ms` and so on are
    medians of the stages; `time_ratio` compares the last tenth of the run with the second tenth, `rss_growth_mb` is how
    much more memory the process took after the second tenth.
    """
    worlds = open_worlds(model, sessions)
    watch, heap, peak_after_tenth = Stopwatch(clock), Heap(), 0.0
    for now, controls in zip(range(WARM_UP + frames), wander(model.spec, sessions), strict=False):
        with watch.stage("frame"):
            play_section(model, worlds, controls, watch)
            heap.note(sessions)
        if now == WARM_UP + frames // 5:
            peak_after_tenth = peak_mb()
    spent, tenth = np.array(watch.laps["frame"][WARM_UP:]), max(1, frames // 10)
    ratio = _pace(spent[-tenth:]) / _pace(spent[tenth : 2 * tenth])
    figures = {
        "fps": num_frames(model.spec) / _pace(spent),
        "frame_p95_ms": 1000 * float(np.quantile(spent, 0.95)),
        "time_ratio": ratio,
        "rss_growth_mb": peak_mb() - peak_after_tenth,
        **{f"{stage}_ms": watch.median_ms(stage) for stage in ("recall", "sample", "decode", "remember")},
    }
    return {f"generate.n{sessions}.{name}": value for name, value in figures.items()}


def _pace(spent: np.ndarray) -> float:
    """Seconds a frame of `spent` (n,): the median over stretches of the mean in each."""
    stretches = np.array_split(spent, max(1, len(spent) // STRETCH))
    return float(np.median([stretch.mean() for stretch in stretches]))


def open_worlds(model: WorldModel, sessions: int) -> list[World]:
    """Each with a seed of its own."""
    return [World(model, Opening(None, "", seed), first_frame=0, capacity=CAPACITY) for seed in range(sessions)]


def play_section(model: WorldModel, worlds: Sequence[World], controls: np.ndarray, watch: Stopwatch) -> None:
    """The next section of each world under `controls` (sessions, frames, A), as the engine makes it."""
    states = [world.state for world in worlds]
    with watch.stage("recall"):
        targets = [expected_poses(model, state, steps) for state, steps in zip(states, controls, strict=True)]
        histories = next_histories([world.session for world in worlds], targets)
    with watch.stage("sample"):
        jobs = model.begin(states, list(controls), histories)
        while any(job.steps_left for job in jobs):
            model.advance(jobs)
        sections = model.finish(jobs)
    with watch.stage("decode"):
        model.decode(states, sections)
    with watch.stage("remember"):
        for world, section in zip(worlds, sections, strict=True):
            world.session.commit(section)
            world.remember()


def wander(spec: ModelSpec, sessions: int) -> Iterator[np.ndarray]:
    """Controls (sessions, frames of a section, A) that change now and then."""
    rng = np.random.default_rng(0)
    while True:
        held = rng.uniform(-1, 1, (sessions, 1, len(spec.controls.axes))).astype(np.float32)
        for _ in range(int(rng.integers(5, 30))):
            yield held.repeat(num_frames(spec), axis=1)


def peak_mb() -> float:
    """The most memory that this process has taken so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
