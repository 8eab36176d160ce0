"""`rewander models`: which large models are on this disk, whether they fit this machine, and plans for any."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from model.checkpoints.catalog import MODELS, components
from model.checkpoints.places import Found, MissingWeightsError, Shelf, WrongWeightsError, hub_cache

if TYPE_CHECKING:
    from model.placement.anatomy import Anatomy
    from model.placement.cards import Card
    from model.placement.plan import Plan


def models(
    weights: Annotated[list[Path] | None, typer.Option(help="A folder to look in first; repeatable.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what a model takes, on cards of 24 to 6 GB too.")] = False,
    model: Annotated[str, typer.Option(help="Of the plan.")] = "framepack-f1",
    size: Annotated[str, typer.Option(help="Of the plan's frames: width and height, such as 832x480.")] = "832x480",
    steps: Annotated[int | None, typer.Option(min=1, help="Of the plan, for a section.")] = None,
    show: Annotated[
        Literal["", "settings", "phrases"],
        typer.Option(help="What may stand behind a model's name, or the camera's phrases, to edit for camera=FILE."),
    ] = "",
) -> None:
    """List the large models that are on this disk, and whether they fit this machine; or plan for one."""
    from model.clips.request import parse_size

    shelf, console = shelf_of(weights or []), Console()
    try:
        if show == "phrases":
            show_phrases()
        elif show == "settings":
            show_settings(console=console)
        elif plan:
            columns, rows = parse_size(size)
            show_plan(model, shelf, console=console, frame_shape=(rows, columns), steps=steps)
        else:
            show_models(shelf, console=console)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def shelf_of(folders: Sequence[Path]) -> Shelf:
    """The folders that a user names, then Hugging Face's cache."""
    return Shelf((*folders, hub_cache()))


def show_phrases() -> None:
    """What keys say to models that are steered by words, as a file of the setting `camera` has it."""
    from model.framepack.camera import SHIPPED

    typer.echo(SHIPPED.read_text(), nl=False)


def show_settings(*, console: Console) -> None:
    """All settings of large models."""
    from model.large.settings import explained

    table = Table("setting", "is", "what it does")
    for row in explained():
        table.add_row(*map(escape, row))
    console.print(table)
    console.print(
        "They stand behind a name, quoted as one: --model 'framepack-f1 weights=/data steps=20'", markup=False
    )


def show_models(shelf: Shelf, *, console: Console, card: "Card | None" = None) -> None:
    """Every model of the catalogue: its files, their size, and whether it fits; then how to fetch what is missing.

    `card` is what is here by default.
    """
    from model.placement.cards import card_here

    table, commands, card = Table("model", "component", "GB", "where"), dict[str, None](), card or card_here()
    for model in MODELS:
        found, problems = _look(shelf, model)
        for name in components(model):
            if name in found:
                size = f"{found[name].num_bytes / 1e9:.1f}" if found[name].weights else ""
                table.add_row(model, name, size, str(found[name].folder))
            else:
                table.add_row(model, name, "", "[red]missing[/]")
                commands[components(model)[name].fetch] = None
        total = sum(one.num_bytes for one in found.values()) / 1e9
        table.add_row(f"[bold]{model}[/]", "", f"{total:.1f}", _verdict(model, shelf, card, problems), end_section=True)
    console.print(table)
    for command in commands:
        console.print(command, markup=False, highlight=False, soft_wrap=True)


def show_plan(model: str, shelf: Shelf, *, console: Console, frame_shape: tuple[int, int], steps: int | None) -> None:
    """What a model's parts weigh, what its steps cost, and where they go on the usual cards and on this machine's.

    Raises UnknownCheckpointError, WrongWeightsError or ValueError for sizes that cannot be.
    """
    from dataclasses import replace

    from model.placement.cards import RATED, card_here
    from model.placement.survey import survey, usual_work

    components(model)
    work = usual_work(model)
    work = replace(work, frame_shape=frame_shape, steps=steps or work.steps)
    with console.status("Measuring the networks without their weights"):
        anatomy = survey(model, shelf, work=work)
    console.print(_parts_table(model, anatomy))
    console.print(_costs(anatomy), highlight=False)
    here = card_here()
    console.print(_cards_table(anatomy, [*([here] if here else []), *RATED.values()]))


def _look(shelf: Shelf, model: str) -> tuple[Mapping[str, Found], list[MissingWeightsError]]:
    found, problems = {}, []
    for name, component in components(model).items():
        try:
            found[name] = shelf.find(component)
        except MissingWeightsError as error:
            problems.append(error)
    return found, problems


def _verdict(model: str, shelf: Shelf, card: "Card | None", problems: list[MissingWeightsError]) -> str:
    """Whether it can be played here."""
    from model.placement.plan import DoesNotFitError, decide
    from model.placement.survey import survey

    if problems:
        return f"[red]{len(problems)} of {len(components(model))} missing[/]"
    if card is None:
        return "[yellow]no CUDA device here; see --plan[/]"
    try:
        plan = decide(survey(model, shelf), card)
    except (DoesNotFitError, WrongWeightsError) as error:
        return f"[red]{escape(str(error))}[/]"
    kind = "streamed" if "transformer" in plan.streamed else "resident"
    return f"[green]fits {kind}: {plan.frame_seconds:.2f} s for a frame[/]"


def _parts_table(model: str, anatomy: "Anatomy") -> Table:
    table = Table("part", "parameters", "GB kept", "largest block, MB", "page-locked, GB", title=model)
    for part in anatomy.parts.values():
        sizes = part.num_bytes / 1e9, part.block_bytes / 1e6, part.pinned_bytes / 1e9
        table.add_row(part.name, f"{part.num_parameters:,}", f"{sizes[0]:.2f}", f"{sizes[1]:.0f}", f"{sizes[2]:.1f}")
    return table


def _costs(anatomy: "Anatomy") -> str:
    work, frames = anatomy.work, anatomy.section_frames
    rows, columns = work.frame_shape
    section = work.steps * anatomy.step.flops + anatomy.decode.flops
    return (
        f"{columns}x{rows} pixels, {work.schedule}, {work.steps} steps: "
        f"{anatomy.step.flops / 1e12:.1f} TFLOP for a step with {anatomy.step.peak_bytes / 1e9:.1f} GB to work on; "
        f"{anatomy.decode.flops / 1e12:.0f} TFLOP to decode with {anatomy.decode.peak_bytes / 1e9:.1f} GB, "
        f"{anatomy.tiled.flops / 1e12:.0f} with {anatomy.tiled.peak_bytes / 1e9:.1f} GB in tiles; "
        f"{section / 1e15:.2f} PFLOP for a section of {frames} frames."
    )


def _cards_table(anatomy: "Anatomy", cards: Sequence["Card"]) -> Table:
    from model.placement.plan import QUANTIZED, DoesNotFitError, decide

    columns = ("card", "weights", "streamed", "peak GB", "host GB", "s/step", "s/sect.", "s/frame")
    table = Table(*columns, caption="; ".join(card.name for card in cards))
    for card in cards:
        for quantized in QUANTIZED:
            try:
                row = _row(decide(anatomy, card, quantized=quantized))
            except DoesNotFitError as error:
                row = ["[red]does not fit[/]", f"[red]{error.needed / 1e9:.1f}[/]"]
            table.add_row(card.name.partition(",")[0], quantized or "as kept", *row)
        table.add_section()
    return table


def _row(plan: "Plan") -> list[str]:
    """What of a plan depends on the card: all but what is streamed stays on it, and tiles are the VAE's."""
    encoders = plan.streamed - {"transformer", "vae"}
    streamed = [name for name in ("transformer", "vae") if name in plan.streamed] + (["encoders"] if encoders else [])
    what = "all" if len(streamed) == 3 else ", ".join(streamed) or "nothing"
    return [
        what + (" + tiles" if plan.tiles else ""),
        f"{plan.peak_device / 1e9:.1f}",
        f"{plan.peak_host / 1e9:.1f}" + ("" if plan.fits_host else " (disk)"),
        f"{plan.step_seconds:.2f}",
        f"{plan.section_seconds:.0f}",
        f"{plan.frame_seconds:.2f}",
    ]
