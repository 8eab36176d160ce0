"""FramePack's tables at our scale, as Markdown next to the published figures, and where the order of rows agrees."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .pictures import plot_lines
from .report import table
from .rows import ENTRIES, PARTS, SCHEDULES, Part, Row
from .trials import Result

Found = Mapping[tuple[Part, str], tuple[Row, Result | None]]

TITLES: dict[Part, str] = {
    "schedules": "Table 1: schedules and orders",
    "alternatives": "Table 2: alternatives",
    "codebooks": "Entries of the codebook",
}
_MEASURES: tuple[tuple[str, str, float], ...] = (  # figure, head of its column, factor
    ("sharpness", "Δ sharpness %", 100),
    ("pooled.sharpness", "Δ pooled %", 100),
    ("mean", "Δ brightness %", 100),
    ("spread", "Δ contrast %", 100),
    ("sharp_at_start", "sharp at start × truth", 1),
    ("sharp_at_end", "at end × truth", 1),
    ("motion_ratio", "motion × truth", 1),
    ("collapsed", "collapsed", 1),
    ("psnr", "PSNR", 1),
    ("revisit", "revisit PSNR", 1),
    ("own_revisit", "own revisit", 1),
)
_HEAD = ("method", "weights", *(head for _, head, _ in _MEASURES), "tokens", "ms", "paper Δ clarity", "dynamic", "ELO")
DRIFT, REVISIT, MOTION = "sharpness", "revisit", "motion_ratio"


def markdown(found: Found, *, about: str) -> str:
    """All tables for which there are rows, then what agrees with the paper."""
    parts = [f"# Drift\n\n{about}\n"]
    for part in PARTS:
        rows = [pair for (its, _), pair in found.items() if its == part]
        if rows:
            parts += [f"## {TITLES[part]}\n\n" + table(_HEAD, [*_truth(rows), *(_line(*pair) for pair in rows)])]
            parts += [_notes(row for row, _ in rows)]
    agreements = list(verdicts(found))
    if agreements:
        parts.append("## Against the paper\n\n" + table(("the paper's order", "here", "agrees"), agreements))
    return "\n".join(part for part in parts if part)


def verdicts(found: Found) -> Iterator[tuple[str, str, str]]:
    """Claims about the order of rows that there are: the paper's, what we find, and whether it agrees."""
    plain = {name: value for name in SCHEDULES if (value := _value(found, "schedules", name, DRIFT)) is not None}
    for suffix, what in (("+D", "+D drifts less than vanilla"), (" inverted", "inverted drifts less than vanilla")):
        pairs = _paired(found, plain, suffix, DRIFT)
        if pairs:
            won = sum(theirs < ours for ours, theirs in pairs)
            yield what, f"with {won} of {len(pairs)} schedules{_taught(found, suffix)}", _said(2 * won > len(pairs))
    moved = {name: value for name in SCHEDULES if (value := _value(found, "schedules", name, MOTION)) is not None}
    if pairs := _paired(found, moved, " inverted", MOTION):
        won = sum(theirs < ours for ours, theirs in pairs)
        yield (
            "inverted moves less than vanilla (89.29 % against 92.91 % dynamic)",
            f"with {won} of {len(pairs)} schedules",
            _said(2 * won > len(pairs)),
        )
    discrete = [theirs for _, theirs in _paired(found, plain, "+D", DRIFT)]
    if len(plain) > 2 and discrete:
        spread, gap = float(np.std(list(plain.values()))), abs(float(np.mean(discrete)) - np.mean(list(plain.values())))
        here = f"sd over schedules {100 * spread:.1f} %, +D against vanilla {100 * gap:.1f} %"
        yield "schedules matter less than methods", here, _said(bool(spread < gap))
    yield from _alternatives(found)


def _alternatives(found: Found) -> Iterator[tuple[str, str, str]]:
    published = [
        (name, row.published.clarity_drift) for (part, name), (row, _) in found.items() if part == "alternatives"
    ]
    both = [(_value(found, "alternatives", name, DRIFT), theirs) for name, theirs in published]
    rows = [(ours, theirs) for ours, theirs in both if ours is not None and theirs is not None]
    if len(rows) > 3:
        agreement = rank_correlation([ours for ours, _ in rows], [theirs for _, theirs in rows])
        here = f"rank correlation of drift over {len(rows)} rows {agreement:.2f}"
        yield "the order of Table 2", here, "yes" if agreement > 0.5 else "partly" if agreement > 0 else "no"
    for name in ("noise-trained", "as trained"):
        levels = [_value(found, "alternatives", f"noise {sigma}, {name}", DRIFT) for sigma in ("0", "0.1", "0.5")]
        if all(level is not None for level in levels):
            falling = [f"{100 * level:.1f} %" for level in levels if level is not None]
            values = [level for level in levels if level is not None]
            here = " > ".join(falling) if values == sorted(values, reverse=True) else ", ".join(falling)
            yield f"more noise on history drifts less ({name})", here, _said(values == sorted(values, reverse=True))


def rank_correlation(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Spearman's, ties sharing their ranks; 0 where one side does not vary."""
    a, b = (_ranks(np.asarray(values, float)) for values in (ours, theirs))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.asarray(((values[:, None] > values).sum(1) + (values[:, None] >= values).sum(1) - 1) / 2)


def plot_tables(found: Found, folder: Path) -> None:
    """Drift against revisit PSNR by noise (Pareto), and both against the entries of the codebook."""
    lines = {
        name: _curve(found, "alternatives", {f"noise {sigma}, {name}": sigma for sigma in ("0", "0.1", "0.5")})
        for name in ("noise-trained", "as trained")
    }
    _plot({name: line for name, line in lines.items() if line.marks}, folder / "noise.png", "Noise on the history")
    sizes = {
        name: _curve(found, "codebooks", {f"K={k}{suffix}": f"K={k}" for k in ENTRIES} | {"none": "none"})
        for name, suffix in (("trained", ""), ("untrained", ", untrained"))
    }
    swept = {name: line for name, line in sizes.items() if len(line.marks) > 1}
    _plot(swept, folder / "codebooks.png", "Entries of the codebook")


class _Curve(NamedTuple):
    drift: np.ndarray  # per cent
    psnr: np.ndarray  # of what is seen again
    marks: list[str]


def _plot(lines: dict[str, _Curve], path: Path, title: str) -> None:
    if lines:
        points = {name: (line.drift, line.psnr) for name, line in lines.items()}
        marks = {name: line.marks for name, line in lines.items()}
        axes = {"x": "drift of sharpness (Eq. 7), %", "y": "revisit PSNR, dB"}
        plot_lines(points, path, **axes, title=title, marks=marks)


def _curve(found: Found, part: Part, names: Mapping[str, str]) -> _Curve:
    """Of the rows that there are; `names` of rows with what is written at their points."""
    rows = ((_value(found, part, name, DRIFT), _value(found, part, name, REVISIT), names[name]) for name in names)
    kept = [(100 * x, y, mark) for x, y, mark in rows if x is not None and y is not None]
    return _Curve(np.array([x for x, _, _ in kept]), np.array([y for _, y, _ in kept]), [mark for _, _, mark in kept])


def _paired(found: Found, plain: Mapping[str, float], suffix: str, figure: str) -> list[tuple[float, float]]:
    pairs = ((ours, _value(found, "schedules", name + suffix, figure)) for name, ours in plain.items())
    return [(ours, theirs) for ours, theirs in pairs if theirs is not None]


def _value(found: Found, part: Part, name: str, figure: str) -> float | None:
    """The mean over seeds of a row's figure, None for a row that was not run."""
    _, result = found.get((part, name), (None, None))
    return None if result is None else result.over_seeds(figure)[0]


def _taught(found: Found, suffix: str) -> str:
    """Whether the weights had learned it."""
    results = (result for (part, name), (_, result) in found.items() if part == "schedules" and name.endswith(suffix))
    return "" if all(result is None or result.variant for result in results) else ", by weights that never learned it"


def _said(agrees: bool) -> str:
    return "yes" if agrees else "no"


def _truth(rows: Sequence[tuple[Row, Result | None]]) -> list[tuple[str, ...]]:
    """What the recorded walks themselves come to."""
    result = next((result for _, result in rows if result is not None), None)
    if result is None:
        return []
    own = {"motion_ratio": "1", "collapsed": "0", "sharp_at_start": "1", "sharp_at_end": "1"}
    cells = []
    for name, _, factor in _MEASURES:
        is_measured = f"{name}_truth" in result.figures
        cells.append(f"{factor * result.over_seeds(name + '_truth')[0]:.2f}" if is_measured else own.get(name, "-"))
    return [("the recorded walks", "-", *cells, *["-"] * 5)]


def _line(row: Row, result: Result | None) -> tuple[str, ...]:
    published = tuple("-" if value is None else f"{value:g}" for value in row.published)
    name = f"{row.name} `{row.schedule}`"
    if result is None:
        return (name, f"needs {' or '.join(row.variants)}", *["-"] * (len(_MEASURES) + 2), *published)
    cells = (_cell(result, figure, factor) for figure, _, factor in _MEASURES)
    return (name, result.variant or "shipped", *cells, str(result.tokens), f"{result.ms:.0f}", *published)


def _cell(result: Result, figure: str, factor: float) -> str:
    mean, deviation = (factor * value for value in result.over_seeds(figure))
    return "-" if math.isnan(mean) else f"{mean:.2f} ± {deviation:.2f}"


def _notes(rows: Iterator[Row]) -> str:
    return "".join(f"- {row.name}: {row.note}.\n" for row in rows if row.note)
