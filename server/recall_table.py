"""`rewander eval recall`: every way to recall on the same revisits, one by one against what a session does."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from model.drift.discretize import train_codebook
from model.evaluation.cases import Case
from model.evaluation.figures import Figures
from model.evaluation.kept import keep, kept, place_of
from model.evaluation.report import table
from model.evaluation.retold import Retelling, Retold, discretized, noisy, of_one_age
from model.evaluation.revisit import by_split, frame_scores, replay
from model.evaluation.rollout import Recall, Record
from model.evaluation.statistics import Interval
from model.evaluation.suite import Extent, Suite
from model.rooms.weights import SHIPPED
from model.rooms.world import Rooms, load

from .recall_rows import ENTRIES, NOISE, OURS, TITLES, Row, rows
from .rivals import method_of

SETS = ("spin-90", "spin-360", "aba-mid", "loop-aba")
_HEAD = ("recall", "revisit PSNR", "against ours", "novel PSNR", "memories", "tokens", "ms")


@dataclass(frozen=True, slots=True)
class RecallOptions:
    """How much is run, on what, and where it is kept. `only` keeps the rows whose names have one of these words."""

    out: Path
    frozen: Path = Path("data/frozen")
    weights: Path = SHIPPED
    sets: tuple[str, ...] = SETS
    videos: int = 6  # of each set
    seeds: int = 1
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What a row came to."""

    memories: float  # that the model read, on average
    tokens: int  # of the context with so many
    ms: float  # of a recall, the median
    scores: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)  # by metric and video, (seeds,)


@dataclass(slots=True)
class Watched:
    """A recall, counted and timed."""

    recall: Recall
    most: int  # memories that the model can read
    nums: list[int] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)

    def __call__(self, record: Record, now: int) -> Sequence[int]:
        began = time.process_time()
        found = self.recall(record, now)
        self.ms.append(1000 * (time.process_time() - began))
        self.nums.append(min(len(found), self.most))
        return found


def make_recall_table(options: RecallOptions, *, tell: Callable[[str], None]) -> Path:
    """Run what is not saved yet and write the report after each row; returns its path.

    Raises ValueError for words that no row has.
    """
    chosen = [row for row in rows() if not options.only or any(word in (row.name, row.part) for word in options.only)]
    if not chosen:
        words = ", ".join(dict.fromkeys([*TITLES, *(row.name for row in rows())]))
        raise ValueError(f"expected words of {words}, got {', '.join(options.only)}")
    options.out.mkdir(parents=True, exist_ok=True)
    report, found = options.out / "recall.md", list[tuple[Row, Result]]()
    for row, result in run_rows(chosen, options, tell=tell):
        found.append((row, result))
        report.write_text(markdown(found, options))
    return report


def run_rows(
    chosen: Sequence[Row], options: RecallOptions, *, tell: Callable[[str], None]
) -> Iterator[tuple[Row, Result]]:
    """Each row with what it came to, run now or saved by an earlier call with the same weights and numbers."""
    loaded: list[list[Case]] = []
    files = [options.weights / f"{name}.safetensors" for name in ("vae", "depth", "reach", "dit", "painter")]
    for number, row in enumerate(chosen, 1):
        doing = asdict(row.doing())
        path = place_of(options.out, doing, files=files, extent=(options.sets, options.videos, options.seeds))
        if not path.exists():
            tell(f"{number} of {len(chosen)}: {row.name}")
            model = load(options.weights, schedule=row.schedule)
            loaded = loaded or _cases(model, options, tell)
            keep(path, doing, asdict(run_row(row, model, loaded, seeds=options.seeds)))
        yield row, Result(**kept(path))


def run_row(row: Row, model: Rooms, loaded: Sequence[Sequence[Case]], *, seeds: int) -> Result:
    """Play every video of every set by one way to recall."""
    retelling = retelling_of(row, model)
    player = model if retelling is None else Retold(model, retelling)
    method = method_of(model, row.policy, name=row.name, field_of_view=model.camera.fov)
    watched, scores = list[Watched](), dict[str, dict[str, list[float]]]()
    for cases in loaded:
        for seed in range(seeds):
            watched.append(Watched(method.make(), model.spec.num_recalled))
            once = replace(method, make=partial(_same, watched[-1]))
            frames = replay(player, cases, once, poses="reckoned", seed=1000 * seed).frames
            for case, shown in zip(cases, frames, strict=True):
                for metric, value in by_split(case, frame_scores(case, shown)).items():
                    videos = scores.setdefault(metric, {})
                    videos.setdefault(f"{case.frozen.name}/{case.video.seed}", []).append(value)
    nums, ms = (list(chain.from_iterable(getattr(one, name) for one in watched)) for name in ("nums", "ms"))
    return Result(float(np.mean(nums)), tokens_of(model, max(nums)), float(np.median(ms)), scores)


def retelling_of(row: Row, model: Rooms) -> Retelling | None:
    """How the model is shown its memories, None for as they are."""
    if row.retold == "codebook":
        return partial(discretized, codebook=train_codebook(model.starts.cpu(), size=ENTRIES))
    if row.retold == "noise":
        return partial(noisy, sigma=NOISE)
    return of_one_age if row.retold else None


def tokens_of(model: Rooms, memories: int) -> int:
    """Of a full context with so many memories."""
    layout = model.layout
    used = {*range(layout.starts + memories), *range(layout.first_recent, layout.slots)}
    return sum(len(model.dit.pixels(group.kind).cos) for group in layout.groups if used.issuperset(group.slots))


def markdown(found: Sequence[tuple[Row, Result]], options: RecallOptions) -> str:
    """The table, part by part; differences are over the same videos."""
    figures = Figures()
    for row, result in found:
        for metric, videos in result.scores.items():
            for video, values in videos.items():
                for value in values:
                    figures.add(f"{row.name}.{metric}", value, video=video)
    about = (
        f"What is seen again, by what the model is shown of it: {options.videos} videos of each of "
        f"{', '.join(options.sets)}, {options.seeds} noise seeds, poses as the model reckons them. Mean over videos "
        "with its 95 % interval by bootstrap, PSNR in dB against the autoencoder's reconstruction. A row changes one "
        "thing of ours, but recency, random, log-spaced and Eq. 5 also keep all latents. Tokens are those of the "
        "context that have something to show, ms the CPU time of a recall and of what it remembers first (median). "
        "History corruption in training is in the drift tables."
    )
    parts = [f"# Recall\n\n{about}\n"]
    for part, title in TITLES.items():
        mine = [pair for pair in found if pair[0].part == part]
        if mine:
            parts.append(f"## {title}\n\n" + table(_HEAD, [_line(*pair, figures) for pair in mine]))
            parts.append("".join(f"- {row.name}: {row.note}.\n" for row, _ in mine if row.note))
    return "\n".join(part for part in parts if part)


def _line(row: Row, result: Result, figures: Figures) -> tuple[str, ...]:
    revisit = f"{row.name}.revisit.psnr"
    apart = figures.difference(revisit, f"{OURS}.revisit.psnr") if row.name != OURS else None
    return (
        row.name,
        _said(figures.interval(revisit)),
        "-" if apart is None else _said(apart, sign="+"),
        _said(figures.interval(f"{row.name}.novel.psnr")),
        f"{result.memories:.1f}",
        str(result.tokens),
        f"{result.ms:.1f}",
    )


def _said(interval: Interval, *, sign: str = "") -> str:
    if not interval.num:
        return "-"
    mean, low, high, num = interval
    return f"{mean:{sign}.2f}" + (f" ({low:{sign}.2f} to {high:{sign}.2f})" if num > 1 else "")


def _cases(model: Rooms, options: RecallOptions, tell: Callable[[str], None]) -> list[list[Case]]:
    """The videos of each set."""
    extent = Extent(videos=options.videos, seeds=options.seeds, sets=options.sets)
    suite = Suite(model, {}, options.frozen, options.out, extent, tell)
    return [list(chain.from_iterable(suite.cases(name))) for name in options.sets]


def _same(recall: Recall) -> Recall:
    return recall
