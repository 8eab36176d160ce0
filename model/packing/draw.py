"""A schedule for the eye: a table of its slots, and its memory layout as an SVG like FramePack's figure 1c."""

from math import ceil

from rich.table import Table

from .layout import Place, lay_out
from .schedule import Grid, Kernel, Schedule

COLOURS = {"start": "#2a9d8f", "recalled": "#e9a820", "recent": "#4573c4", "target": "#d1495b", "future": "#7b5ea7"}
FRAME, SPACE, MARGIN = 40, 10, 20  # pixels: one frame, between segments, around the picture
BOX_TOP, BAR_TOP, BAR_HEIGHT = 64, 166, 30
CELLS = 8  # a frame of base patches is drawn as 8 x 8 cells
MAX_DRAWN = 16  # frames drawn per segment; more are hinted at


def describe(schedule: Schedule, latent_grid: Grid, *, gap: int = 0) -> Table:
    """Slots, kernels, tokens and RoPE indices of `schedule` on latents of `latent_grid` (h, w), for a rich console.

    An `x` in the name skips `gap` frames.
    """
    before, after = (gap, 0) if schedule.form == "inverted" else (0, gap)
    context, target = schedule.context_tokens(latent_grid), schedule.target_tokens(latent_grid)
    table = Table(title=str(schedule), caption=_caption(schedule, latent_grid))
    for heading in ("role", "slots", "frames", "kernel", "tokens", "share", "RoPE indices"):
        table.add_column(heading, justify="right" if heading in ("frames", "tokens", "share") else "left")
    for place in lay_out(schedule, before=before, after=after):
        segment = place.segment
        tokens = segment.tokens(latent_grid)
        name = f"g{segment.frames}" if place.role == "target" else str(segment)
        kernel = " x ".join(map(str, segment.kernel))
        share = f"{100 * tokens / (context + target):.1f} %"
        table.add_row(place.role, name, str(segment.frames), kernel, str(tokens), share, _span(place))
    table.add_section()
    table.add_row("all", "", "", "", str(context + target), "", f"{context} + {target}")
    return table


def picture(schedule: Schedule, latent_grid: Grid) -> str:
    """SVG text: above the frames with the patches of their kernel, below their shares of the sequence's tokens."""
    places = lay_out(schedule)
    total = schedule.context_tokens(latent_grid) + schedule.target_tokens(latent_grid)
    widths = [min(place.segment.frames, MAX_DRAWN) * FRAME for place in places]
    gaps = [_gap(schedule, previous, place) for previous, place in zip((None, *places), places, strict=False)]
    inner = sum(widths) + sum(gaps)
    shapes, left, bar_left = [], float(MARGIN), float(MARGIN)
    for place, width, gap in zip(places, widths, gaps, strict=True):
        bar_width = inner * place.segment.tokens(latent_grid) / total
        left += gap
        if gap > SPACE:
            shapes.append(f'<text x="{left - gap / 2:g}" y="{BOX_TOP + FRAME / 2 + 4:g}">x</text>')
        shapes += _segment(place, schedule.base, left, width)
        shapes.append(_label(place, latent_grid, left + width / 2))
        shapes += _bar(place, (left, left + width), (bar_left, bar_left + bar_width))
        left += width
        bar_left += bar_width
    full, height = inner + 2 * MARGIN, BAR_TOP + BAR_HEIGHT + 44
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full} {height}" width="{full}" '
            f'font-family="sans-serif" font-size="11" text-anchor="middle">',
            f'<rect width="{full}" height="{height}" fill="#fff"/>',
            f'<text x="{MARGIN}" y="24" text-anchor="start" font-size="14">{schedule}</text>',
            *shapes,
            f'<text x="{MARGIN}" y="{height - 16}" text-anchor="start">{_caption(schedule, latent_grid)}</text>',
            "</svg>\n",
        ]
    )


def _caption(schedule: Schedule, grid: Grid) -> str:
    tail = {"ta": "tail: a token per pooled frame", "tc": "tail: one token"}.get(schedule.tail, "tail: deleted")
    discrete = ", history from a codebook" if schedule.is_discrete else ""
    tokens = schedule.context_tokens(grid) + schedule.target_tokens(grid)
    return f"{tokens} tokens on {grid[0]} x {grid[1]} latents, {tail}{discrete}"


def _span(place: Place) -> str:
    first, last = place.indices[0], place.indices[-1]
    span = str(first) if first == last else f"{first}..{last}"
    return f"{span} or their own" if place.role == "recalled" else span


def _gap(schedule: Schedule, previous: Place | None, place: Place) -> int:
    """Pixels left of a segment; wider where the schedule skips frames."""
    if previous is None:
        return 0
    skips = {"vanilla": False, "endpoint": previous.role == "target", "inverted": place.role == "target"}
    return 4 * SPACE if skips[schedule.form] else SPACE


def _segment(place: Place, base: Kernel, left: float, width: int) -> list[str]:
    """The frames of one segment: a box for each tensor in time that the kernel makes, with a line at every token."""
    t, h, w = place.segment.kernel
    drawn = min(place.segment.frames, MAX_DRAWN)
    boxes = ceil(drawn / t)
    side, colour = width / boxes, COLOURS[place.role]
    rows, columns = max(1, CELLS * base[1] // h), max(1, CELLS * base[2] // w)
    boxed = [_cells(left + i * side, side, rows, columns) for i in range(boxes)]
    return [f'<path d="{d}" fill="{colour}" fill-opacity=".2" stroke="{colour}"/>' for d in boxed]


def _cells(left: float, side: float, rows: int, columns: int) -> str:
    lines = [f"M{left:g} {BOX_TOP}h{side:g}v{FRAME}h{-side:g}z"]
    lines += [f"M{left + side * i / columns:g} {BOX_TOP}v{FRAME}" for i in range(1, columns)]
    lines += [f"M{left:g} {BOX_TOP + FRAME * i / rows:g}h{side:g}" for i in range(1, rows)]
    return "".join(lines)


def _label(place: Place, grid: Grid, middle: float) -> str:
    segment = place.segment
    name = f"g{segment.frames}" if place.role == "target" else str(segment)
    name += " ..." if segment.frames > MAX_DRAWN else ""
    return (
        f'<text x="{middle:g}" y="{BOX_TOP - 20}">{name}</text>'
        f'<text x="{middle:g}" y="{BOX_TOP - 7}" fill="#666">{segment.tokens(grid)}</text>'
    )


def _bar(place: Place, top: tuple[float, float], bottom: tuple[float, float]) -> list[str]:
    """The segment's share of the sequence, tied to its frames."""
    colour, low = COLOURS[place.role], BOX_TOP + FRAME
    funnel = f"M{top[0]:g} {low}H{top[1]:g}L{bottom[1]:g} {BAR_TOP}H{bottom[0]:g}z"
    return [
        f'<path d="{funnel}" fill="{colour}" fill-opacity=".1"/>',
        f'<rect x="{bottom[0]:g}" y="{BAR_TOP}" width="{bottom[1] - bottom[0]:g}" height="{BAR_HEIGHT}" '
        f'fill="{colour}" stroke="#fff"/>',
    ]
