"""The command line: the one file that reads arguments and environment. Commands import what they need when they run."""

from importlib.metadata import version
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)
train = typer.Typer(no_args_is_help=True, help="Train the parts of a model.")
app.add_typer(train, name="train")


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
