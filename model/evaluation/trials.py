"""Run the rows of the tables, each saved as soon as it is done: rollouts under recorded controls and poses.

Legend: V videos, S seeds, M generated frames.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ..drift.alternatives import anchor_frames, repeat_image_to_video
from ..drift.discretize import CODEBOOK, Codebook, load_codebook, train_codebook
from ..drift.orders import Clip, Sampling, forward, inverted
from ..lora.files import LORA
from ..packing.schedule import Schedule
from ..rooms.offline import Offline, Treatment, Walk
from ..rooms.weights import SHIPPED
from ..rooms.world import Rooms, load
from .cases import decoded
from .courses import Course, Figures, courses, figures_of
from .kept import keep, kept, place_of
from .pictures import spaced, strip
from .rollout import Recall, Record
from .rows import Row

_ALTERNATIVES: dict[str, Callable[[Sampling], Sampling]] = {
    "": lambda sampling: sampling,
    "repeat": repeat_image_to_video,
    "anchors": partial(anchor_frames, anchors=(0,)),
}


@dataclass(frozen=True, slots=True)
class Trials:
    """How much is run, on what, and where it is kept."""

    out: Path
    frozen: Path = Path("data/frozen")
    weights: Path = SHIPPED
    adapters: Path | None = None  # a folder of fine-tunings, each in a folder of its name
    videos: int = 4
    seeds: int = 3
    frames: int = 240

    def variant(self, row: Row) -> str | None:
        """The fine-tuning that a row takes, "" for the weights as they are, None if it is not there."""
        for name in row.variants:
            if not name or (self.adapters is not None and (self.adapters / name / "lora" / LORA).exists()):
                return name
        return None

    def folder_of(self, variant: str) -> Path | None:
        """Of a fine-tuning that is there."""
        return self.adapters / variant / "lora" if variant and self.adapters is not None else None


@dataclass(frozen=True, slots=True)
class Result:
    """What a row came to."""

    variant: str
    tokens: int  # of the context, at the end
    ms: float  # of a frame, in batches of all walks
    figures: Figures = field(default_factory=dict)

    def over_seeds(self, name: str) -> tuple[float, float]:
        """Mean over videos, and then mean and standard deviation over seeds; NaN if no video has the figure."""
        found = np.array(self.figures[name])
        if np.isnan(found).all(axis=1).any():
            return float("nan"), float("nan")
        means = np.nanmean(found, axis=1)
        return float(means.mean()), float(means.std(ddof=1)) if len(means) > 1 else 0.0


def run_rows(
    rows: Sequence[Row], trials: Trials, *, recall: Callable[[Rooms], Recall], tell: Callable[[str], None]
) -> Iterator[tuple[Row, Result | None]]:
    """Each row with what it came to, run now or saved by an earlier call with the same weights and numbers.

    None for rows whose fine-tuning is not there. `recall` makes a fresh recall for rows that have one.
    """
    loaded: list[Course] = []
    for number, row in enumerate(rows, 1):
        variant = trials.variant(row)
        if variant is None:
            yield row, None
            continue
        path = _place(row, trials, variant)
        if not path.exists():
            tell(f"{number} of {len(rows)}: {row.name} ({row.schedule}{', ' + variant if variant else ''})")
            model, codebook = prepared(row, trials, variant)
            loaded = loaded or courses(model, trials.frozen, videos=trials.videos, frames=trials.frames)
            result = _run(row, model, codebook, loaded, trials=trials, recall=recall)
            keep(path, asdict(row.doing()), asdict(result))
        yield row, Result(**kept(path))


def prepared(row: Row, trials: Trials, variant: str) -> tuple[Rooms, Codebook | None]:
    """The model with a row's fine-tuning in its weights, and the codebook of its +D.

    That of the fine-tuning, or one of the latents that worlds begin from, which training has seen.
    """
    folder = trials.folder_of(variant)
    model = load(trials.weights, adapters=folder)
    if not row.entries:
        return model, None
    if folder is not None and (folder / CODEBOOK).exists():
        return model, load_codebook(folder / CODEBOOK, channels=model.starts.shape[1])
    return model, train_codebook(model.starts.cpu(), size=row.entries)


def samplings(row: Row, *, first: int, frames: int) -> Iterator[Sampling]:
    """The row's plan: forward, or inverted `ahead` frames at a time."""
    schedule, change = Schedule.parse(row.schedule), _ALTERNATIVES[row.alternative]
    if row.order == "vanilla":
        yield from map(change, forward(schedule, Clip(frames, given=first)))
        return
    for start in range(first, first + frames, row.ahead):
        yield from inverted(schedule, Clip(min(row.ahead, first + frames - start), given=start))


def _run(
    row: Row,
    model: Rooms,
    codebook: Codebook | None,
    found: Sequence[Course],
    *,
    trials: Trials,
    recall: Callable[[Rooms], Recall],
) -> Result:
    treatment = Treatment(codebook, row.noise, row.pictures, row.guidance)
    offline, recalls = Offline(model, Schedule.parse(row.schedule), treatment), recall(model) if row.recalls else None
    pairs = [(seed, course) for seed in range(trials.seeds) for course in found]
    spent, tail, walks = 0.0, 0, []
    for start in range(0, len(pairs), model.spec.max_batch):
        part = [
            offline.walk(
                course.latents, course.video.controls, course.poses, seed=1000 * seed + course.video.seed % 1000
            )
            for seed, course in pairs[start : start + model.spec.max_batch]
        ]
        began = time.perf_counter()
        tail = _generate(row, offline, part, first=found[0].first, recall=recalls)
        spent += time.perf_counter() - began
        walks += part
    shown = [decoded(model, walk.latents[found[0].first :]) for walk in walks]
    _save_strip(trials, row, found[0].reference, shown[0])
    ms = 1000 * spent / (len(pairs) * trials.frames)
    return Result(trials.variant(row) or "", offline.tokens(tail=tail), ms, figures_of(found, shown, trials.seeds))


def _generate(row: Row, offline: Offline, walks: Sequence[Walk], *, first: int, recall: Recall | None) -> int:
    """Make all frames from `first` on; returns how many latents have left the slots."""
    for walk in walks:
        walk.latents[first:] = 0
        offline.show(walk, range(first))
    records = [Record(walk.latents, walk.controls, walk.poses, truth=walk.poses) for walk in walks]
    tail = 0
    for sampling in samplings(row, first=first, frames=len(walks[0].latents) - first):
        now = sampling.target[0]
        offline.make(walks, sampling, recalled=[recall(record, now) for record in records] if recall else ())
        tail = len(sampling.tail.sources)
    return tail


def _place(row: Row, trials: Trials, variant: str) -> Path:
    """Of the result of a run: what is done, with which weights, on how much."""
    folder = trials.folder_of(variant)
    files = [trials.weights / f"{name}.safetensors" for name in ("vae", "depth", "dit")]
    files += [] if folder is None else [folder / LORA, *folder.glob(CODEBOOK)]
    extent = (trials.videos, trials.seeds, trials.frames)
    return place_of(trials.out, asdict(row.doing()), files=files, extent=extent)


def _save_strip(trials: Trials, row: Row, reference: np.ndarray, shown: np.ndarray) -> None:
    (trials.out / "pictures").mkdir(parents=True, exist_ok=True)
    rows, name = {"ground truth": reference, "generated": shown}, f"{row.part}-{row.name}".replace(" ", "-")
    strip(rows, spaced(len(shown), min(len(shown), 10))).save(trials.out / "pictures" / f"{name}.png")
