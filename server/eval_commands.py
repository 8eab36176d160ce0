"""`rewander eval`: the protocols, FramePack's tables (`drift`) and ways to recall (`recall`), imported as they run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .extras import extra

app = typer.Typer(add_completion=False)
Frozen = Annotated[Path, typer.Option(help="Where the frozen sets are rendered, once.")]
SETS_HELP = (
    "Of revisit: spin-360, aba-doom-my-way-home, ...; of forward: forward, forward-doom-my-way-home; "
    "of retrieval: walk, walk-doom-my-way-home, walk-doom-deathmatch; repeatable."
)
Weights = Annotated[Path | None, typer.Option(help="A folder of weights; the shipped ones by default.")]


@app.callback(invoke_without_command=True)
def evaluate(
    context: typer.Context,
    protocol: Annotated[list[str] | None, typer.Option(help="forward, revisit, loop, drift, ...; repeatable.")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Ways to recall: ours, off, recent, ...; repeatable.")
    ] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help=SETS_HELP)] = None,
    weights: Weights = None,
    videos: Annotated[int, typer.Option(min=1, help="Of each set.")] = 16,
    runs: Annotated[int, typer.Option(min=1, help="Of the 64-frame rollouts.")] = 50,
    seeds: Annotated[int, typer.Option(min=1, help="Noise seeds for each video.")] = 3,
    long_runs: Annotated[int, typer.Option(min=1, help="Runs of long play.")] = 20,
    long_frames: Annotated[int, typer.Option(min=100, help="Frames of long play.")] = 10_000,
    frozen: Frozen = Path("data/frozen"),
    out: Annotated[Path, typer.Option(help="The report: JSON, Markdown, plots, picture strips.")] = Path("runs/eval"),
    as_json: Annotated[bool, typer.Option("--json", help="Print flat keys and numbers.")] = False,
) -> None:
    """Measure the `rooms` model: next frames, revisits, loops, drift, control, retrieval. `drift`: FramePack's."""
    if context.invoked_subcommand is not None:
        return
    with extra("train"):
        from model.evaluation.sets import SETS, can_render
        from model.evaluation.suite import Extent
        from model.rooms.world import create
        from model.rooms.world import load as load_weights

        from .evaluate import PROTOCOLS, Options
        from .evaluate import evaluate as run_protocols

    options = Options(frozen, out, extent=Extent(videos=videos, runs=runs, seeds=seeds))
    options = replace(options, long_runs=long_runs, long_frames=long_frames, protocols=tuple(protocol or PROTOCOLS))
    if method:
        options = replace(options, methods=tuple(method))
    if unknown := set(sets or ()) - SETS.keys():
        raise typer.BadParameter(f"expected sets of {', '.join(SETS)}, got {', '.join(sorted(unknown))}")
    if away := [name for name in sets or () if not can_render(SETS[name])]:
        raise typer.BadParameter(f"expected Doom (pip install vizdoom) for {', '.join(away)}, got none")
    if sets:
        options = replace(options, extent=replace(options.extent, sets=tuple(sets)))
    model = load_weights(weights) if weights else create()
    try:
        figures = run_protocols(model, options, tell=lambda doing: typer.echo(doing, err=True))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(json.dumps(figures, indent=1) if as_json else (out / "report.md").read_text())


@app.command("drift")
def drift(
    part: Annotated[
        list[str] | None, typer.Option(help="schedules (Table 1), alternatives (Table 2), codebooks, cost; repeatable.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Rows whose names have this word; repeatable.")] = None,
    videos: Annotated[int, typer.Option(min=1, help="Walks, each there and back.")] = 4,
    seeds: Annotated[int, typer.Option(min=1, help="Noise seeds for each walk.")] = 3,
    frames: Annotated[int, typer.Option(min=1, help="Of a rollout; a training sequence has 24.")] = 240,
    length: Annotated[list[int] | None, typer.Option(min=1, help="Of cost: history in latents; repeatable.")] = None,
    weights: Weights = None,
    adapters: Annotated[Path | None, typer.Option(help="Fine-tunings by `train lora`, in folders by name.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; all cores but one by default.")] = None,
    frozen: Frozen = Path("data/frozen"),
    out: Annotated[Path, typer.Option(help="The report; rows that are in it are not run again.")] = Path("runs/drift"),
) -> None:
    """FramePack's tables on `rooms`: schedules, orders, alternatives, codebooks, and what history costs."""
    with extra("train"):
        from model.evaluation.cost import LENGTHS
        from model.evaluation.trials import Trials
        from model.rooms.weights import SHIPPED
        from model.threads import use_threads

        from .tables import CHOICES, TableOptions, make_tables

    use_threads(threads)
    trials = Trials(out, frozen, weights or SHIPPED, adapters, videos, seeds, frames)
    chosen = TableOptions(trials, tuple(part or CHOICES), tuple(only or ()), tuple(length or LENGTHS))
    try:
        report = make_tables(chosen, tell=lambda doing: typer.echo(doing, err=True))
    except (FileNotFoundError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(report.read_text())


@app.command("recall")
def recall(
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="spin-90, spin-360, aba-mid and loop-aba by default; repeatable.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Rows or parts of this name; repeatable.")] = None,
    videos: Annotated[int, typer.Option(min=1, help="Of each set.")] = 6,
    seeds: Annotated[int, typer.Option(min=1, help="Noise seeds for each video.")] = 1,
    weights: Weights = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; all cores but one by default.")] = None,
    frozen: Frozen = Path("data/frozen"),
    out: Annotated[Path, typer.Option(help="The report; rows that are in it are not run again.")] = Path("runs/recall"),
) -> None:
    """Ways to recall on `rooms`: what is asked, how much is shown, and what is kept."""
    with extra("train"):
        from model.rooms.weights import SHIPPED
        from model.threads import use_threads

        from .recall_table import SETS as USUAL
        from .recall_table import RecallOptions, make_recall_table

    use_threads(threads)
    options = RecallOptions(out, frozen, weights or SHIPPED, tuple(sets or USUAL), videos, seeds, tuple(only or ()))
    try:
        report = make_recall_table(options, tell=lambda doing: typer.echo(doing, err=True))
    except (FileNotFoundError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(report.read_text())
