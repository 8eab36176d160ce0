"""Clips for the eye, on a rich console: progress with time left and a small picture, and the table of jobs."""

import logging
from collections.abc import Sequence
from typing import Self

import numpy as np
from PIL import Image
from rich.color import Color
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.segment import Segment, Segments
from rich.style import Style
from rich.table import Table
from rich.text import Text

from model.clips import making
from model.clips.job import Job
from model.clips.queue import Listing

PICTURE_COLUMNS = 48
UPPER_HALF = "\u2580"  # its colour is the upper pixel, its background the lower one


logger = logging.getLogger("model")  # of all models: what goes where before weights are read, say


class View:
    """Shows the job in progress while it is entered, and what models log; `tell` is what a `Studio` is told by."""

    def __init__(self, console: Console) -> None:
        self._console, self._log, self._level = console, _Log(console), logger.level
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("loading", total=None)
        self._shown = ""
        self._frame: np.ndarray | None = None
        self._live = Live(self._bar, console=console, refresh_per_second=4, get_renderable=self._render, transient=True)

    def __enter__(self) -> Self:
        logger.addHandler(self._log)
        logger.setLevel(logging.INFO)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        logger.setLevel(self._level)
        logger.removeHandler(self._log)

    def tell(self, job: Job, progress: making.Progress) -> None:
        total, steps = progress.num_sections * progress.num_steps, progress.sections * progress.num_steps
        if job.name != self._shown:
            self._shown = job.name
            # a new task, so that what an earlier process made does not count as this one's speed
            self._bar.remove_task(self._task)
            self._task = self._bar.add_task(f"{job.name} {job.out.name}", total=total, completed=steps)
        self._bar.update(self._task, completed=steps + progress.step)
        if progress.frame is not None:
            self._frame = progress.frame

    def _render(self) -> RenderableType:
        if self._frame is None or not self._console.is_terminal:
            return self._bar
        return Group(picture(self._frame, columns=min(PICTURE_COLUMNS, self._console.width)), self._bar)


class _Log(logging.Handler):
    """What is logged, above what is live."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


def picture(frame: np.ndarray, *, columns: int) -> Segments:
    """A frame (H, W, 3) as coloured half blocks, two pixels a character, `columns` wide."""
    height, width = frame.shape[:2]
    rows = max(1, round(columns * height / width / 2))
    small = np.asarray(Image.fromarray(frame).resize((columns, 2 * rows), Image.Resampling.BOX))
    segments = []
    for upper, lower in zip(small[::2], small[1::2], strict=True):
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            segments.append(Segment(UPPER_HALF, Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below))))
        segments.append(Segment.line())
    return Segments(segments)


def table(jobs: Sequence[Listing]) -> Table:
    """A queue's jobs, one a row."""
    made = Table("job", "state", "sections", "model", "seconds", "file", "problem")
    for job in jobs:
        sections = f"{job.sections}/{job.num_sections or '?'}"
        about = ("?", "?", "?")
        if job.ticket is not None:
            request = job.ticket.request
            about = (request.model, f"{request.seconds:g}", job.ticket.out)
        # what users wrote is text, not rich's markup
        made.add_row(*map(Text, (job.name, job.state, sections, *about, job.problem)))
    return made
