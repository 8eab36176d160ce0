"""`rewander clips`: list, run, cancel, retry and remove queued clips; what they need is imported when they run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Queued clips: list, run, cancel, retry, remove.")


@contextmanager
def clip_errors() -> Iterator[None]:
    """Around what a user can get wrong about clips."""
    from .clip_commands import CLIP_ERRORS

    try:
        yield
    except CLIP_ERRORS as error:
        typer.echo(f"Cannot do that: {error}", err=True)
        raise typer.Exit(1) from error


Clips = Annotated[Path, typer.Option(help="The folder of the jobs.")]


@app.command("list")
def list_all(queue: Clips = Path("clips")) -> None:
    """All jobs and how far they are."""
    from rich.console import Console

    from .clip_commands import show

    with clip_errors():
        show(queue, console=Console())


@app.command("run")
def run_all(queue: Clips = Path("clips")) -> None:
    """Make all clips that wait, and go on with those that were interrupted."""
    from rich.console import Console

    from .clip_commands import run
    from .serve import load_model

    with clip_errors():
        if any(ended.problem for ended in run(queue, load=load_model, console=Console())):
            raise typer.Exit(1)


@app.command("cancel")
def cancel(name: str, queue: Clips = Path("clips")) -> None:
    """Stop a job at its next step."""
    from model.clips.queue import cancel_job

    with clip_errors():
        cancel_job(queue, name)


@app.command("retry")
def retry(name: str, queue: Clips = Path("clips")) -> None:
    """Let a failed or cancelled job go on from its last section."""
    from model.clips.queue import retry_job

    with clip_errors():
        retry_job(queue, name)


@app.command("remove")
def remove(name: str, queue: Clips = Path("clips")) -> None:
    """Delete a job and its unfinished file."""
    from model.clips.queue import remove_job

    with clip_errors():
        remove_job(queue, name)
