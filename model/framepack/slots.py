"""What a network is shown of a session or of a planned clip: latents in the slots of a schedule, as pieces to pack."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..drift.orders import EMPTY, OrderError
from ..packing.layout import lay_out
from ..packing.pack import Piece
from ..packing.schedule import Schedule
from ..world_model import History

if TYPE_CHECKING:
    from ..clips.planned import Aim  # which brings libraries that only clips need


class SlotsError(ValueError):
    """A schedule that a live session cannot keep to."""


class Slots:
    """The live layout: a start frame, the newest latents and the target, at the same indices for ever."""

    def __init__(self, schedule: Schedule, *, num_recalled: int) -> None:
        """The first `num_recalled` groups of the coarsest slots, the oldest, show a memory each where there is one.

        Raises SlotsError unless there is one start frame, and more such groups than memories.
        """
        frames = [segment.frames for segment in schedule.start]
        if schedule.form != "vanilla" or schedule.recalled or frames != [1] or not schedule.recent:
            raise SlotsError(f"expected one start frame and recent ones, like f1k1f16k4f2k2f1k1_g9, got {schedule}")
        if schedule.tail in ("ta", "tc") or schedule.is_discrete:
            raise SlotsError(f"expected a schedule that deletes its tail and has no +D, got {schedule}")
        coarsest = schedule.recent[0]
        groups = coarsest.frames // coarsest.kernel[0]
        if not 0 <= num_recalled < groups:
            raise SlotsError(f"expected fewer memories than the {groups} groups of {coarsest}, got {num_recalled}")
        places = lay_out(schedule)
        self._places, self._group, self._num_recalled = places[:-1], coarsest.kernel[0], num_recalled
        self.target = places[-1].indices

    def pieces(self, history: History) -> list[Piece]:
        """Pieces of one row, with zeros in empty slots, as FramePack was trained."""
        first = 1 + self._num_recalled
        content = np.where(history.valid[:, None, None, None], history.latents, 0).astype(np.float32)
        recent, is_valid = content[first:], history.valid[first:].copy()
        for i in np.flatnonzero(history.valid[1:first]):
            # one memory fills its group: the kernel averages over time, and different ones would blur together
            group = slice(i * self._group, (i + 1) * self._group)
            recent[group], is_valid[group] = content[1 + i], True
        rows = torch.from_numpy(np.concatenate([content[:1], recent])).transpose(0, 1)[None]
        valid = torch.from_numpy(np.concatenate([history.valid[:1], is_valid]))[None]
        pieces, at = [], 0
        for place in self._places:
            span = slice(at, at := at + len(place.indices))
            pieces.append(Piece(rows[:, :, span], torch.tensor([place.indices]), place.segment.kernel, valid[:, span]))
        return pieces


def aimed_pieces(aim: "Aim") -> list[Piece]:
    """What a planned sampling sees; raises OrderError for what it cannot be shown."""
    if aim.sampling.tail.sources:
        raise OrderError("expected a schedule that deletes its tail, got one that keeps some of it")
    return [
        Piece(
            _rows(aim.latents(view.sources)),
            torch.tensor([view.place.indices]),
            view.place.segment.kernel,
            torch.tensor([[source != EMPTY for source in view.sources]]),
        )
        for view in aim.sampling.context
    ]


def with_target(name: str, *, target: int) -> str:
    """The schedule `name` with sections of `target` latents."""
    return str(replace(Schedule.parse(name), target=target))


def _rows(latents: np.ndarray) -> Tensor:
    """(1, C, t, h, w) float32 of latents (t, C, h, w)."""
    return torch.from_numpy(latents.astype(np.float32)).transpose(0, 1)[None]
