"""Chunks of latents as the server carries them, and what of them Helios is shown.

C x h x w one latent, S latents of a chunk. Helios' VAE codes every chunk alone, 4 (S - 1) + 1 frames as S latents, so a
latent by itself has no number of frames. What the server calls a latent is therefore a whole chunk, (C, S h, w).
"""

import math

import numpy as np
import torch
from torch import Tensor

from ..framepack.slots import Slots
from ..packing.pack import Piece
from ..packing.schedule import Schedule
from ..world_model import History


def to_chunk(latents: Tensor) -> np.ndarray:
    """(C, S h, w) float16 of latents (C, S, h, w)."""
    return latents.flatten(1, 2).half().cpu().numpy()


def from_chunk(chunk: np.ndarray, *, section: int) -> Tensor:
    """(C, S, h, w) float32."""
    channels, rows, columns = chunk.shape
    return torch.from_numpy(chunk.astype(np.float32)).view(channels, section, rows // section, columns)


class ChunkSlots:
    """Helios' layout: the world's first latent, pinned, and the newest before the target; empty slots hold zeros."""

    def __init__(self, schedule: Schedule) -> None:
        """Raises SlotsError for a schedule unlike td_f1k1f16k4f2k2f1k1_g9, which is Helios' own."""
        self._slots = Slots(schedule, num_recalled=0)
        self._section = schedule.target
        self._num_recent = sum(segment.frames for segment in schedule.recent)
        self.target = self._slots.target
        self.num_chunks = math.ceil(self._num_recent / self._section)

    def pieces(self, history: History, *, first: Tensor | None, before: Tensor | None) -> list[Piece]:
        """Pieces of one row from a server's `history` of chunks.

        `first` (C, 1, h, w) is pinned, and `before` (C, 1, h, w) is what a start image left just before the first
        chunk; both are None where there is none.
        """
        channels, rows, columns = history.latents.shape[1:]
        nothing = torch.zeros(channels, self._num_recent, rows // self._section, columns)
        past = [nothing]
        for chunk, index, is_valid in zip(history.latents[1:], history.indices[1:], history.valid[1:], strict=True):
            if is_valid and index:
                past.append(from_chunk(chunk, section=self._section))
            elif is_valid and before is not None:
                past.append(before)
        recent = torch.cat(past, dim=1)[:, -self._num_recent :]
        latents = torch.cat([nothing[:, :1] if first is None else first, recent], dim=1).transpose(0, 1).numpy()
        count = len(latents)
        return self._slots.pieces(
            History(latents, np.arange(count), np.zeros((count, 3), np.float32), np.ones(count, bool))
        )
