"""Picture strips: what was generated beside what is true, and how figures go over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw

_LABEL = 88  # pixels to the left of a strip


def strip(rows: Mapping[str, np.ndarray], times: Sequence[int]) -> Image.Image:
    """One row of frames for each entry, (T, H, W, 3) each, at `times`, with the row's name before it."""
    height, width = next(iter(rows.values())).shape[1:3]
    picture = Image.new("RGB", (_LABEL + width * len(times), height * len(rows)), "white")
    draw = ImageDraw.Draw(picture)
    for i, (label, frames) in enumerate(rows.items()):
        draw.multiline_text((6, i * height + height // 2 - 8), label.replace(" ", "\n"), fill="black")
        picture.paste(Image.fromarray(np.concatenate([frames[t] for t in times], 1)), (_LABEL, i * height))
    return picture


def spaced(num_frames: int, num: int) -> list[int]:
    """`num` times from the first to the last frame."""
    return [round(float(time)) for time in np.linspace(0, num_frames - 1, num)]


def plot_lines(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    path: Path,
    *,
    x: str,
    y: str,
    title: str,
    marks: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Draw named curves (x values, y values) into a PNG or SVG file; `marks` are written at the points of a curve."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, (xs, ys) in lines.items():
        axes.plot(xs, ys, marker="." if len(xs) < 40 else "", label=name)
        for point, mark in zip(zip(xs, ys, strict=True), marks.get(name, ()), strict=False):
            axes.annotate(mark, point, textcoords="offset points", xytext=(5, 4), fontsize="small")
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def binned(xs: np.ndarray, ys: np.ndarray, edges: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the bins that hold values, and the means of `ys` (n,) there, by `xs` (n,)."""
    place = np.digitize(xs, edges) - 1
    filled = [i for i in range(len(edges) - 1) if (place == i).any()]
    middles = np.array([(edges[i] + edges[i + 1]) / 2 for i in filled])
    return middles, np.array([ys[place == i].mean() for i in filled])
