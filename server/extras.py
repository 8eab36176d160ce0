"""Commands that need optional dependencies say which to install."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around the imports of a command that needs the optional dependencies `name`."""
    try:
        yield
    except ModuleNotFoundError as missing:
        typer.echo(f"This command needs {missing.name}: pip install 'rewander[{name}]'", err=True)
        raise typer.Exit(1) from missing
