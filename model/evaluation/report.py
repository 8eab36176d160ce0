"""The figures as JSON, as Markdown tables and as plots, and whether they reach the bars."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .figures import Figures, flattened
from .pictures import binned, plot_lines
from .suite import Curves

_GAPS = (20, 40, 60, 80, 120, 160, 200, 240, 320, 400, 500, 600, 700)
_RIVALS = ("off", "recent", "log", "random", "similar", "hybrid", "sequel", "fov", "other", "copy")
_RETRIEVAL = ("recall_at_1", "recall_at_5", "mrr", "delay", "coverage_recent", "coverage", "coverage_all")
Flat = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure that must be at least, or at most, some value."""

    key: str
    what: str
    least: float | None = None
    most: float | None = None

    def holds(self, flat: Flat) -> bool:
        value = flat[self.key]
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def wanted(self) -> str:
        bounds = [f"at least {self.least:g}"] if self.least is not None else []
        return " and ".join(bounds + ([f"at most {self.most:g}"] if self.most is not None else []))


BARS = (
    Bar("step.psnr", "next frame, PSNR in dB", least=28),
    Bar("step.moving.gain", "next frame over copying the last one, where the view moves, dB", least=6),
    Bar("forward.psnr.at16", "16 frames on, PSNR in dB", least=20),
    Bar("forward.unsteady", "share of 64-frame runs that blur out or blow up", most=0),
    Bar("forward.sharpness", "sharpness after 64 frames against recorded frames, octaves", least=-1),
    Bar("rgt.all.reckoned.ours.revisit.psnr", "revisit frames, PSNR in dB", least=22),
    Bar("gain.ours_over_recent", "recall over recency only, revisit frames, dB", least=4),
    Bar("gain.share_of_oracle", "share of the oracle's gain over recency only", least=0.85),
    Bar("gain.ours_over_similar.low", "recall over last-latent top-k, lower end of the paired interval, dB", least=0),
    Bar("gain.ours_over_random.low", "recall over random recall, lower end of the paired interval, dB", least=0),
    Bar("gain.other_over_recent", "another session's bank over recency only, dB", most=0.3),
    Bar("close.spin-360.reckoned.ours.psnr", "360 degree spin, first against last frame, dB", least=20),
    Bar("autopilot.pooled.sharpness", "Eq. 7 of sharpness over long play, all runs together", most=0.05),
    Bar("autopilot.pooled.mean", "Eq. 7 of the colour mean", most=0.05),
    Bar("autopilot.pooled.spread", "Eq. 7 of the colour spread", most=0.05),
    Bar("autopilot.motion_ratio", "motion, as a share of the truth's", least=0.9, most=1.1),
    Bar("autopilot.unsteady", "share of long runs that end outside of what true walks look like", most=0),
    Bar("control.turn.error", "turn against the command", most=0.1),
    Bar("control.wall.stopped", "share of walls that stop the walk", least=1),
)


def flat_figures(figures: Figures) -> dict[str, float]:
    """All figures, what follows from several of them, and `bar.*`: 1 where a bar is reached, else 0."""
    flat = figures.flat() | _gains(figures, "rgt.all.reckoned.{}.revisit.psnr")
    return flat | {f"bar.{bar.key}": float(bar.holds(flat)) for bar in BARS if bar.key in flat}


def write_report(figures: Figures, curves: Curves, *, out: Path, about: str) -> dict[str, float]:
    """Write figures.json, report.md and plots into `out`; returns the flat figures. `about` says of what."""
    out.mkdir(parents=True, exist_ok=True)
    flat = flat_figures(figures)
    (out / "figures.json").write_text(json.dumps(flat, indent=1) + "\n")
    (out / "report.md").write_text(markdown(flat, about=about))
    if curves.gaps:
        lines = {
            name: binned(np.concatenate(gaps), np.concatenate(curves.scores[name]), _GAPS)
            for name, gaps in curves.gaps.items()
        }
        plot_lines(lines, out / "gap.png", x="frames since last seen", y="PSNR, dB", title="Revisit frames by gap")
    if curves.forward:
        mean = np.mean(curves.forward, axis=0)
        line = {"generated": (np.arange(1, len(mean) + 1), mean)}
        plot_lines(line, out / "forward.png", x="frames after the context", y="PSNR, dB", title="64 frames forward")
    if curves.long:
        lines = {name: _smoothed(np.mean(runs, axis=0)[:, 0]) for name, runs in curves.long.items()}
        plot_lines(lines, out / "long.png", x="frames", y="sharpness", title="Long play on blind controls")
    return flat


def markdown(flat: Flat, *, about: str) -> str:
    """All tables for which there are figures."""
    parts = [f"# Evaluation\n\n{about}\n", _bars(flat)]
    for column in ("reckoned", "true", "given"):
        parts.append(_rgt(flat, column))
    parts += [
        _by_set(flat, "close", "R-CLOSE: the last frame against the context frame with its pose, PSNR in dB", ".psnr"),
        _rows(flat, "loop", ("psnr", "ssim", "matched"), "R-LOOP: the way back against the way out"),
        _rows(flat, "retrieval", _RETRIEVAL, "Retrieval, where memory is needed"),
        *(
            _rows(flat, f"retrieval-doom-{level}", _RETRIEVAL, f"The same in Doom, {level}")
            for level in ("home", "deathmatch")
        ),
        _rest(flat),
    ]
    return "\n".join(part for part in parts if part)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def shown(flat: Flat, key: str) -> str:
    """A figure with its interval, or a dash."""
    if key not in flat:
        return "-"
    text = f"{flat[key]:.3g}" if abs(flat[key]) < 1 else f"{flat[key]:,.2f}".removesuffix(".00")
    return f"{text} ({flat[f'{key}.low']:.2f} to {flat[f'{key}.high']:.2f})" if f"{key}.low" in flat else text


def _gains(figures: Figures, key: str) -> dict[str, float]:
    """Our recall over each rival, paired by video, and its share of the oracle's gain."""
    flat: dict[str, float] = {}
    ours, recent, oracle = (key.format(name) for name in ("ours", "recent", "oracle"))
    for rival in (name for name in _RIVALS if key.format(name) in figures and ours in figures):
        flat |= flattened(f"gain.ours_over_{rival}", figures.difference(ours, key.format(rival)))
    if key.format("other") in figures and recent in figures:
        flat |= flattened("gain.other_over_recent", figures.difference(key.format("other"), recent))
    if all(name in figures for name in (ours, recent, oracle)):
        best = figures.difference(oracle, recent).mean
        flat["gain.share_of_oracle"] = round(figures.difference(ours, recent).mean / best, 5) if best > 0 else 0.0
    return flat


def _smoothed(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over fiftieths of a series."""
    return binned(np.arange(len(series)), series, np.linspace(0, len(series), min(len(series), 50) + 1).tolist())


def _bars(flat: Flat) -> str:
    rows = [
        [bar.what, bar.wanted, shown(flat, bar.key), "yes" if bar.holds(flat) else "no"]
        for bar in BARS
        if bar.key in flat
    ]
    return "## Bars\n\n" + table(["what", "bar", "measured", "reached"], rows) if rows else ""


def _rgt(flat: Flat, column: str) -> str:
    prefix = f"rgt.all.{column}."
    names = _names(flat, prefix)
    parts = [f"{split}.{metric}" for split in ("revisit", "novel") for metric in ("psnr", "ssim", "psnr_raw")]
    rows = [[name, *(shown(flat, f"{prefix}{name}.{part}") for part in parts)] for name in names]
    poses = "true, of what follows too" if column == "given" else column
    title = f"## R-GT, all sets, poses of the context {poses}\n\n"
    by_set = _by_set(flat, "rgt", f"Revisit frames by set, poses {poses}, PSNR in dB", ".revisit.psnr", column=column)
    return title + table(["method", *parts], rows) + "\n" + by_set if rows else ""


def _by_set(flat: Flat, protocol: str, title: str, suffix: str, *, column: str = "reckoned") -> str:
    keys = [
        key.removesuffix(suffix).split(".") for key in flat if key.startswith(f"{protocol}.") and key.endswith(suffix)
    ]
    found = [parts for parts in keys if len(parts) == 4 and parts[2] == column and parts[1] != "all"]
    sets, names = (list(dict.fromkeys(parts[i] for parts in found)) for i in (1, 3))
    rows = [[name, *(shown(flat, f"{protocol}.{set_}.{column}.{name}{suffix}") for set_ in sets)] for name in names]
    return f"## {title}\n\n" + table(["method", *sets], rows) if rows else ""


def _rows(flat: Flat, protocol: str, parts: Sequence[str], title: str) -> str:
    names = _names(flat, f"{protocol}.")
    rows = [[name, *(shown(flat, f"{protocol}.{name}.{part}") for part in parts)] for name in names]
    return f"## {title}\n\n" + table(["method", *parts], rows) if rows else ""


def _rest(flat: Flat) -> str:
    groups = ("step", "forward", "drift", "autopilot", "control", "cost", "gain", "sets")
    keys = [
        key
        for key in flat
        if key.split(".")[0].split("-")[0] in groups and not key.endswith((".low", ".high", ".videos"))
    ]
    return "## Everything else\n\n" + table(["key", "value"], [[key, shown(flat, key)] for key in keys]) if keys else ""


def _names(flat: Flat, prefix: str) -> list[str]:
    return list(dict.fromkeys(key.removeprefix(prefix).split(".")[0] for key in flat if key.startswith(prefix)))
