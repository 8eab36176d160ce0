"""`rewander bench`: generation, sharing and recall on this machine."""

import json
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

SHARED = (1, 2, 4, 8)  # sessions


def bench(
    model: Annotated[str, typer.Option(help="A model by its entry point.")] = "rooms",
    frames: Annotated[int, typer.Option(min=20, help="Frames of each run; 50000 shows that nothing grows.")] = 200,
    sessions: Annotated[list[int] | None, typer.Option(help="Worlds in one batch; repeatable.")] = None,
    shared: Annotated[list[int] | None, typer.Option(help="Sessions in one process and in many; repeatable.")] = None,
    entries: Annotated[list[int] | None, typer.Option(help="Sizes of memory banks; repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Flat keys and numbers.")] = False,
) -> None:
    """Measure generation and recall on this machine. `bench` in the README says what the keys mean."""
    from rich.console import Console
    from rich.table import Table

    from .bench import bench_generation
    from .bench_sharing import bench_sharing
    from .evaluate import recall_cost
    from .serve import load_model

    loaded, counts = load_model(model), shared or SHARED
    figures: dict[str, float] = {}
    for count in sessions or [1, 2, 4]:
        figures |= bench_generation(loaded, sessions=count, frames=frames)
    seconds = frames / loaded.spec.frame_rate
    figures |= bench_sharing(loaded, partial(load_model, model), sessions=counts, seconds=seconds)
    for size in entries or [1_000, 10_000, 100_000]:
        cost = recall_cost(loaded.spec, entries=size)
        figures |= {f"recall.n{size}.{name}": value for name, value in cost.items()}
    if as_json:
        typer.echo(json.dumps({key: round(value, 3) for key, value in figures.items()}, indent=1))
        return
    table = Table("figure", "value")
    for key, value in figures.items():
        table.add_row(key, f"{value:.2f}")
    console = Console()
    console.print(table)
    console.print(_sharing_table(figures, counts))


def _sharing_table(figures: dict[str, float], counts: "list[int] | tuple[int, ...]") -> "Table":
    from rich.table import Table

    from .bench_sharing import WAYS

    table = Table("sessions", *map(str, counts), f"at {figures['sharing.frame_rate']:g} fps")
    for way in WAYS:
        fps = [f"{figures[f'sharing.n{count}.{way}.fps']:.1f}" for count in counts]
        table.add_row(f"fps of each, {_spoken(way)}", *fps, f"{figures[f'sharing.{way}.full_rate_sessions']:.2f}")
    for way in WAYS:
        table.add_row(f"MB, {_spoken(way)}", *(f"{figures[f'sharing.n{count}.{way}.rss_mb']:.0f}" for count in counts))
    return table


def _spoken(way: str) -> str:
    return way.replace("_", " ")
