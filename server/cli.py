"""The command line: the one file that reads arguments and environment. Commands import what they need when they run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

app = typer.Typer(no_args_is_help=True, add_completion=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("rewander"))
        raise typer.Exit


@app.callback()
def rewander(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Playable world models with a memory: the place you walk back to is the place you left."""


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Around the imports of a command that needs the optional dependencies `name`."""
    try:
        yield
    except ModuleNotFoundError as missing:
        typer.echo(f"This command needs {missing.name}: pip install 'rewander[{name}]'", err=True)
        raise typer.Exit(1) from missing


@app.command()
def record(
    folder: Annotated[Path, typer.Argument(help="Where the episodes go, one file for each seed.")],
    env: Annotated[str, typer.Option(help="`rooms`, or the id of a Gymnasium environment with RGB frames.")] = "rooms",
    episodes: Annotated[int, typer.Option(min=1, help="How many; those already in the folder count.")] = 100,
    first_seed: Annotated[int, typer.Option(min=0)] = 0,
    length: Annotated[int, typer.Option(min=2, help="Frames of one episode.")] = 384,
    size: Annotated[int, typer.Option(min=8, help="Height and width of a frame in pixels.")] = 128,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core by default.")] = None,
) -> None:
    """Record episodes to train on: frames, controls and poses."""
    with _extra("train"):
        from model.training.record import Recording
        from model.training.record import record as record_missing

    recording = Recording(folder, env=env, length=length, size=size)
    seeds = range(first_seed, first_seed + episodes)
    missing = sum(not recording.path(seed).exists() for seed in seeds)
    paths = record_missing(recording, seeds=seeds, workers=workers or os.cpu_count() or 1)
    for _ in track(paths, "Recording", total=missing):
        pass


@app.command()
def train(
    stage: Annotated[str, typer.Argument(help="vae, motion, odometry, dit, in this order; then export.")],
    folder: Annotated[Path, typer.Argument(help="Checkpoints, logs and samples; training resumes from them.")],
    episodes: Annotated[Path, typer.Option(help="Recorded episodes.")] = Path("data/rooms"),
    steps: Annotated[int | None, typer.Option(min=1, help="Steps in all, those done before included.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; all cores but one by default.")] = None,
) -> None:
    """Train `rooms` from scratch, stage by stage; `export` writes the weights into FOLDER/weights."""
    with _extra("train"):
        from model.training.stages import STAGES, StageError, Workshop, export, use_threads

    if stage not in {*STAGES, "export"}:
        raise typer.BadParameter(f"expected one of {', '.join(STAGES)} or export, got {stage!r}")
    use_threads(threads or max(1, (os.cpu_count() or 2) - 1))
    shop = Workshop(folder, episodes)
    try:
        if stage == "export":
            export(shop, folder / "weights")
        else:
            run, usual = STAGES[stage]
            run(shop, steps=steps or usual, seed=seed)
    except StageError as error:
        raise typer.BadParameter(str(error)) from error
