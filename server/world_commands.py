"""`rewander worlds`: list, check, export and remove saved worlds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import localtime, strftime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .journal import JournalError
from .worlds import check_world, export_world, list_worlds, remove_world

app = typer.Typer(no_args_is_help=True, help="Saved worlds: list, check, export, remove.")
Worlds = Annotated[Path, typer.Argument(help="The folder given to `rewander play --worlds`.")]


@contextmanager
def _world_errors() -> Iterator[None]:
    try:
        yield
    except (JournalError, OSError) as error:
        typer.echo(f"Cannot do that: {error}", err=True)
        raise typer.Exit(1) from error


@app.command("list")
def list_all(folder: Worlds) -> None:
    """All worlds by name."""
    table = Table("world", "model", "MB", "last change")
    with _world_errors():
        for world in list_worlds(folder):
            model = world.opened.model if world.opened else world.problem
            changed = strftime("%Y-%m-%d %H:%M", localtime(world.modified))
            table.add_row(world.name, model, f"{world.num_bytes / 1e6:.1f}", changed)
    Console().print(table)


@app.command()
def check(folder: Worlds, name: str) -> None:
    """Read a world from end to end; exits with 1 if it is damaged."""
    with _world_errors():
        found = check_world(folder, name)
    typer.echo(f"{found.num_frames} frames in {found.num_sections} sections, {found.num_torn_bytes} torn bytes")
    if found.problem:
        typer.echo(found.problem, err=True)
        raise typer.Exit(1)


@app.command()
def export(folder: Worlds, name: str, to: Path) -> None:
    """Copy a world's whole records into a new file."""
    with _world_errors():
        export_world(folder, name, to=to)


@app.command()
def remove(folder: Worlds, name: str) -> None:
    """Delete a world that no session writes to."""
    with _world_errors():
        remove_world(folder, name)
