"""`rewander eval drift`: FramePack's tables on `rooms` with the server's memory, its plots, and what history costs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from model.evaluation.cost import LENGTHS, WAYS, Cost, Setting, costs, plot_costs
from model.evaluation.report import table
from model.evaluation.rollout import Recall
from model.evaluation.rows import PARTS, Part, Row, rows
from model.evaluation.tables import Found, markdown, plot_tables
from model.evaluation.trials import Result, Trials, run_rows
from model.rooms.world import Rooms

from .rivals import methods

COST = "cost"
CHOICES: tuple[str, ...] = (*PARTS, COST)


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What is run. `only` keeps the rows whose names have one of these words."""

    trials: Trials
    parts: tuple[str, ...] = CHOICES
    only: tuple[str, ...] = ()
    lengths: tuple[int, ...] = LENGTHS


def make_tables(options: TableOptions, *, tell: Callable[[str], None]) -> Path:
    """Run what is not saved yet and write the report after each row; returns its path.

    Raises ValueError for a part that is none, more frames than there are, and words that no row has.
    """
    unknown = set(options.parts) - set(CHOICES)
    if unknown:
        raise ValueError(f"expected parts of {', '.join(CHOICES)}, got {', '.join(sorted(unknown))}")
    asked = rows(tuple(cast(Part, part) for part in options.parts if part != COST))
    chosen = [row for row in asked if not options.only or any(word in row.name for word in options.only)]
    if asked and not chosen:
        raise ValueError(f"expected words of {', '.join(row.name for row in asked)}, got {', '.join(options.only)}")
    trials, measured = options.trials, list[Cost]()
    found: dict[tuple[Part, str], tuple[Row, Result | None]] = {}
    trials.out.mkdir(parents=True, exist_ok=True)
    for row, result in run_rows(chosen, trials, recall=_recall, tell=tell):
        found[row.part, row.name] = row, result
        write(found, (), trials)
    if COST in options.parts:
        measured = measure_costs(trials, options.lengths, tell=tell)
    write(found, measured, trials)
    return trials.out / "drift.md"


def measure_costs(trials: Trials, lengths: Sequence[int], *, tell: Callable[[str], None]) -> list[Cost]:
    """Step time and peak memory for every way and length, those saved before included."""
    path = trials.out / "cost.json"
    known = [Cost(**row) for row in json.loads(path.read_text())] if path.exists() else []
    done = {(cost.way, cost.length) for cost in known}
    missing = [Setting(way, length, trials.weights) for way in WAYS for length in lengths if (way, length) not in done]
    for setting, cost in zip(missing, costs(missing), strict=True):
        tell(f"cost, {setting.way}, {setting.length} latents: {cost.ms or 'does not fit'}")
        known.append(cost)
        path.write_text(json.dumps([asdict(cost) for cost in known], indent=1) + "\n")
    wanted = sorted((cost for cost in known if cost.length in lengths), key=lambda c: (WAYS.index(c.way), c.length))
    plot_costs(wanted, trials.out / "cost.png")
    return wanted


def write(found: Found, measured: Sequence[Cost], trials: Trials) -> None:
    """drift.md, drift.json and the plots."""
    about = (
        f"{trials.videos} walks, {trials.seeds} seeds, rollouts of {trials.frames} frames; a training sequence has 24. "
        "Mean over walks, then mean ± standard deviation over seeds. Drift is Eq. 7 as a share of the start; pooled is "
        "that of the mean over walks. Neither tells of what is bad from the start, so look at PSNR (dB, against the "
        "autoencoder's reconstruction) and at sharpness beside it. Poses are the recorded ones for all rows. "
        "Whatever its schedule, `rooms` carries pictures of the newest frames to the target's camera beside the packed "
        "tokens; those are never of frames that the schedule does not show."
    )
    text = markdown(found, about=about) + cost_table(measured)
    (trials.out / "drift.md").write_text(text)
    plot_tables(found, trials.out)
    flat = {f"{part}.{name}": None if result is None else asdict(result) for (part, name), (_, result) in found.items()}
    (trials.out / "drift.json").write_text(json.dumps(flat, indent=1) + "\n")


def cost_table(measured: Sequence[Cost]) -> str:
    """As Markdown, empty for nothing."""
    if not measured:
        return ""
    lines = [
        (cost.way, f"{cost.length:,}", f"{cost.tokens:,}", *(_figure(value) for value in (cost.ms, cost.mb)))
        for cost in measured
    ]
    head = ("context", "history", "tokens", "ms of one core", "MB at the peak")
    note = "A dash: it did not fit into 4 GiB beyond the weights.\n"
    return "\n## Cost\n\n" + table(head, lines) + "\n" + note


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _recall(model: Rooms) -> Recall:
    [ours] = methods(model, ["ours"], field_of_view=model.camera.fov)
    return ours.make()
