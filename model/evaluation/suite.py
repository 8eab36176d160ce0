"""The protocols, run over the frozen sets: every method on the same videos, figures under flat keys."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..rooms.world import Rooms
from .cases import Case, Method, Poses, decoded, prepare
from .control import move_figures, turn_figures, wall_figures
from .drift import drifting, looks
from .figures import Figures
from .forward import is_steady, looks_at_times, one_step, unsteady_records
from .metrics import fid, psnr
from .pictures import spaced, strip
from .retrieval import queries, retrieval_figures
from .revisit import by_split, closing, copied, frame_scores, looping, replay
from .sets import SETS, are_known, can_render, load_or_render
from .statistics import slope

REVISITS = ("aba-short", "aba-mid", "aba-long", "spin-90", "spin-360", "loop-aba", "loop-abca", "worldmem")
WALKS = {  # and what their figures are called
    "walk": "retrieval",
    "walk-doom-my-way-home": "retrieval-doom-home",
    "walk-doom-deathmatch": "retrieval-doom-deathmatch",
}
FORWARDS = {"forward": "", "forward-doom-my-way-home": "-doom-home"}  # and what follows `step` and `forward` in keys
AT = (1, 2, 4, 8, 16, 32, 64)  # frames after the context
_CONTROLS = {"turning": ("turn", turn_figures), "moving": ("move", move_figures), "into-wall": ("wall", wall_figures)}
_SHOWN = {"ours": "recall on", "off": "recall off"}  # on picture strips
_NUM_STRIPS = 3  # of each set
_NUM_WALKS = 8  # of two minutes each


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is run."""

    videos: int = 8  # of each set
    runs: int = 50  # of the sets `forward`
    seeds: int = 3
    columns: tuple[Poses, ...] = ("reckoned", "true", "given")
    true_methods: tuple[str, ...] = ("off", "recent", "oracle", "ours")  # that have the other columns than `reckoned`
    sets: tuple[str, ...] = REVISITS
    perceptual: bool = False  # LPIPS and FID too


@dataclass(slots=True)
class Curves:
    """What the plots show: by method, gaps and PSNR of revisit frames; PSNR by frame; looks by frame."""

    gaps: dict[str, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    scores: dict[str, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    forward: list[np.ndarray] = field(default_factory=list)
    long: dict[str, list[np.ndarray]] = field(default_factory=dict)  # LOOKS (T, 4) of the runs of long play


@dataclass(frozen=True, slots=True)
class Suite:
    """One evaluation of one model. `frozen` and `out` are folders; `tell` hears what is being done."""

    model: Rooms
    methods: dict[str, Method]
    frozen: Path
    out: Path
    extent: Extent
    tell: Callable[[str], None]
    figures: Figures = field(default_factory=Figures)
    curves: Curves = field(default_factory=Curves)

    def cases(self, name: str, videos: int | None = None) -> Iterator[list[Case]]:
        """A set's videos in batches of a size that the model takes at once."""
        count = videos or self.extent.videos
        found = load_or_render(SETS[name], self.frozen, videos=count)
        num_batches = -(-count // self.model.spec.max_batch)
        for part in np.array_split(np.arange(count), num_batches):
            batch = prepare(self.model, SETS[name], [next(found) for _ in part])
            known = are_known(SETS[name], [case.video for case in batch], first=int(part[0]))
            for case, is_known in zip(batch, known, strict=True):
                self.figures.add(f"sets.{name}.known", is_known, video=_id(case))
            yield batch


def run_revisits(suite: Suite) -> None:
    """R-GT and R-CLOSE for every set, column and method, and the copy baseline."""
    others = {*WALKS, *FORWARDS}
    for name in [name for name in suite.extent.sets if name not in others] or REVISITS:
        for number, cases in enumerate(suite.cases(name)):
            strips = [{"ground truth": case.reference} for case in cases[:_NUM_STRIPS]]
            for run in _runs(suite):
                suite.tell(f"{name}, poses {run.column}, {run.method.name}, seed {run.seed}")
                frames = replay(suite.model, cases, run.method, poses=run.column, seed=1000 * run.seed).frames
                _score(suite, cases, frames, (run.column, run.method.name))
                if run.seed == 0 and run.column == suite.extent.columns[0] and run.method.name in _SHOWN:
                    for rows, shown in zip(strips, frames, strict=False):
                        rows[_SHOWN[run.method.name]] = shown
            copies = [copied(suite.model, case) for case in cases]
            for column in suite.extent.columns:
                _score(suite, cases, copies, (column, "copy"))
            if number == 0:
                _save_strips(suite, f"revisit-{name}", strips)


def run_loops(suite: Suite) -> None:
    """R-LOOP: MIND's mirrored paths, out against back."""
    for cases in suite.cases("mirror"):
        for method in suite.methods.values():
            for seed in range(suite.extent.seeds):
                suite.tell(f"mirror {method.name} seed {seed}")
                frames = replay(suite.model, cases, method, poses="reckoned", seed=1000 * seed).frames
                for case, shown in zip(cases, frames, strict=True):
                    suite.figures.add_all(f"loop.{method.name}", looping(suite.model, case, shown), video=_id(case))


def run_forward(suite: Suite, method: Method) -> None:
    """One-step prediction and 64 frames forward: on the sets of it that were asked for, or else on `forward`."""
    for name in [name for name in suite.extent.sets if name in FORWARDS] or ["forward"]:
        _forward(suite, method, name)


def _forward(suite: Suite, method: Method, name: str) -> None:
    figures, strips = suite.figures, []
    step_key, key = f"step{FORWARDS[name]}", f"forward{FORWARDS[name]}"
    ends, real = {}, []  # looks of the runs' ends, and of all recorded frames, those before the runs too
    for cases in suite.cases(name, suite.extent.runs):
        suite.tell(f"{name}, one step")
        for case, step in zip(cases, one_step(suite.model, cases, method, poses="reckoned"), strict=True):
            moving = step.is_moving
            figures.add_all(step_key, {"psnr": step.psnr.mean(), "copy": step.copy.mean()}, video=_id(case))
            figures.add(f"{step_key}.moving.share", moving.mean(), video=_id(case))
            if moving.any():
                gain = (step.psnr - step.copy)[moving].mean()
                row = {"psnr": step.psnr[moving].mean(), "copy": step.copy[moving].mean(), "gain": gain}
                figures.add_all(f"{step_key}.moving", row, video=_id(case))
        suite.tell(f"{name}, 64 frames")
        frames = replay(suite.model, cases, method, poses="reckoned").frames
        for case, shown in zip(cases, frames, strict=True):
            scores = psnr(shown, case.reference)
            suite.curves.forward.append(scores)
            figures.add_all(f"{key}.psnr", {f"at{t}": scores[t - 1] for t in AT}, video=_id(case))
            ends[_id(case)] = looks_at_times(shown)[-1]
            context = decoded(suite.model, case.latents[: case.first])
            real.append(looks_at_times(np.concatenate([context, case.reference])))
            figures.add(f"{key}.sharpness", ends[_id(case)][0] - real[-1][-1, 0], video=_id(case))
            strips.append({"ground truth": case.reference, "generated": shown})
    recorded = np.concatenate(real)
    for video, end in ends.items():
        figures.add(f"{key}.unsteady", not is_steady(end, recorded), video=video)
    for video, is_unsteady in zip(ends, unsteady_records(real), strict=False):
        figures.add(f"{key}.unsteady_truth", is_unsteady, video=video)
    _save_strips(suite, name, strips, times=[t - 1 for t in (1, 2, 4, 8, 16, 24, 32, 48, 64)])


def run_drift(suite: Suite, method: Method) -> None:
    """Rollouts ten times as long as a training sequence, under recorded controls."""
    for cases in suite.cases("drift"):
        suite.tell(f"drift, {len(cases)} runs of {len(cases[0].reference)} frames")
        frames = replay(suite.model, cases, method, poses="reckoned").frames
        for case, shown in zip(cases, frames, strict=True):
            before = decoded(suite.model, case.latents[case.first - 1][None])[0]
            row = drifting(looks(shown, before), looks(case.reference, before))
            row["psnr_slope"] = slope(psnr(shown, case.reference))
            suite.figures.add_all("drift", row, video=_id(case))


def run_control(suite: Suite, method: Method) -> None:
    """Turns, displacements and walls."""
    for name, (key, measure) in _CONTROLS.items():
        for cases in suite.cases(name):
            suite.tell(f"control, {key}")
            frames = replay(suite.model, cases, method, poses="reckoned").frames
            for case, shown in zip(cases, frames, strict=True):
                suite.figures.add_all(f"control.{key}", measure(case, shown), video=_id(case))


def run_retrieval(suite: Suite) -> None:
    """What each method finds on long recorded walks: of the sets that were asked for, or else in every world."""
    recent = suite.model.spec.num_recent
    for name in [name for name in suite.extent.sets if name in WALKS] or WALKS:
        if not can_render(SETS[name]):
            suite.tell(f"retrieval, {name}: left out, since Doom is not installed (pip install vizdoom)")
            continue
        for case in chain.from_iterable(suite.cases(name, min(suite.extent.videos, _NUM_WALKS))):
            suite.tell(f"retrieval {_id(case)}")
            asked = queries(case.video.views, first=case.first, recent=recent)
            for method in (method for method in suite.methods.values() if not method.is_foreign):
                row = retrieval_figures(case, asked, method.make(), poses="reckoned", recent=recent)
                suite.figures.add_all(f"{WALKS[name]}.{method.name}", row, video=_id(case))


class _Run(NamedTuple):
    column: Poses
    method: Method
    seed: int


def _runs(suite: Suite) -> Iterator[_Run]:
    for column in suite.extent.columns:
        for method in suite.methods.values():
            if column == "reckoned" or method.name in suite.extent.true_methods:
                yield from (_Run(column, method, seed) for seed in range(suite.extent.seeds))


def _score(
    suite: Suite, cases: Sequence[Case], frames: Sequence[np.ndarray] | np.ndarray, row: tuple[str, str]
) -> None:
    """File the scores of one method on one set under `row`: (column, method)."""
    column, method = row
    if suite.extent.perceptual:
        distance = fid(np.concatenate(list(frames)), np.concatenate([case.reference for case in cases]))
        suite.figures.add(f"rgt.{cases[0].frozen.name}.{column}.{method}.fid", distance, video=_id(cases[0]))
    for case, shown in zip(cases, frames, strict=True):
        scores, name = frame_scores(case, shown, perceptual=suite.extent.perceptual), case.frozen.name
        for group in (name, "all"):
            suite.figures.add_all(f"rgt.{group}.{column}.{method}", by_split(case, scores), video=_id(case))
        if case.frozen.home is not None:
            row_of = closing(suite.model, case, shown)
            suite.figures.add_all(f"close.{name}.{column}.{method}", row_of, video=_id(case))
        if column == suite.extent.columns[0]:
            suite.curves.gaps[method].append(case.split.gap[case.split.is_revisit])
            suite.curves.scores[method].append(scores["psnr"][case.split.is_revisit])


def _save_strips(
    suite: Suite, name: str, strips: Sequence[dict[str, np.ndarray]], times: Sequence[int] | None = None
) -> None:
    suite.out.mkdir(parents=True, exist_ok=True)
    for i, rows in enumerate(strips):
        count = len(next(iter(rows.values())))
        strip(rows, times or spaced(count, 10)).save(suite.out / f"{name}-{i:02d}.png")


def _id(case: Case) -> str:
    return f"{case.frozen.name}/{case.video.seed}"
