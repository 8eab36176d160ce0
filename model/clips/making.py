"""Making a clip: sampling after sampling in the order of a plan, all on disk at once, shown in time's order."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ..world_model import Section, WorldModel
from .latents import LatentFile
from .mp4 import Mp4Writer

Sections = tuple[int, ...]
Making = Generator[None, None, list[Section]]  # yields after each denoise step, returns the sections


class Maker(Protocol):
    """Makes a clip's sections in some order. Going on after any of them makes no difference to the next."""

    @property
    def order(self) -> Sequence[Sections]:
        """The sections that each sampling makes, counted in time's order; each section once."""

    def restore(self, made: LatentFile) -> None:
        """Be where it was when it had made the sections in `made`; called once, before anything is made."""

    def make(self, number: int) -> Making:
        """Sampling `number`, the one after those made so far: the sections `order[number]`."""


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """How far a clip is. `frame` is the newest to see, RGB (H, W, 3), None if there is no newer one."""

    sections: int  # made
    num_sections: int
    step: int  # done, of the sampling in progress
    num_steps: int
    frame: np.ndarray | None = None


class Film:
    """Decodes sections in time's order into a file, up to a number of frames.

    It has a state of the model for itself: what was sampled meanwhile, and whether that went on after an interruption,
    makes no difference to the frames.
    """

    def __init__(self, model: WorldModel, state: Any, writer: Mp4Writer, *, num_frames: int) -> None:
        """`state` is where the clip's first section goes on from; `num_frames` of new sections are written."""
        self._model, self._state, self._writer = model, state, writer
        self.num_steps = model.spec.num_steps
        self._left = num_frames

    def show(self, section: Section) -> np.ndarray:
        """Append the next section; returns its last frame (H, W, 3)."""
        [frames] = self._model.decode([self._state], [section])
        frames = frames[: self._left]
        for frame in frames:
            self._writer.write(frame)
        self._left -= len(frames)
        last: np.ndarray = frames[-1]
        return last


def produce(maker: Maker, made: LatentFile, film: Film) -> Generator[Progress, None, None]:
    """Make all that `made` does not hold yet and show it; yields after each step and each section shown.

    Whoever does not want the rest stops asking: what was made stays in `made`.
    """
    order = maker.order
    rank = {section: i for i, section in enumerate(section for sections in order for section in sections)}
    number = _whole_samplings(made, order)
    maker.restore(made)
    shown = 0
    while True:
        while shown < len(rank) and rank[shown] < len(made):
            frame = film.show(made.read(rank[shown]))
            shown += 1
            yield Progress(len(made), len(rank), 0, film.num_steps, frame)
        if number == len(order):
            return
        sections = yield from _steps(maker.make(number), Progress(len(made), len(rank), 0, film.num_steps))
        for section in sections:
            made.append(section)
        number += 1


def _whole_samplings(made: LatentFile, order: Sequence[Sections]) -> int:
    """How many samplings are on disk; sections of one that is not there as a whole are cut off."""
    whole, total = 0, 0
    while whole < len(order) and total + len(order[whole]) <= len(made):
        total += len(order[whole])
        whole += 1
    made.cut(total)
    return whole


def _steps(making: Making, before: Progress) -> Generator[Progress, None, list[Section]]:
    step = 0
    while True:
        try:
            next(making)
        except StopIteration as done:
            sections: list[Section] = done.value
            return sections
        step += 1
        yield replace(before, step=step)
