"""What FramePack asks of a network: a denoiser that takes packed histories, with what it is conditioned on.

B rows, C x h x w one latent, S latents of a section.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..packing.pack import Piece
from .step_cache import StepCache
from .wording import Mix


class Context(Protocol):
    """A packed history, of the network's own type."""

    @property
    def layout(self) -> Hashable:
        """Rows of one layout go through the network together."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One section at one step."""

    noisy: Tensor  # (1, C, S, h, w) float32 on the network's device
    sigma: Tensor  # () float32
    context: Any
    given: Any  # what `condition` said
    caches: tuple[StepCache, ...] = ()  # one for each pass of a step, or none


class Network(Protocol):
    """A denoiser of packed histories, with what it is conditioned on."""

    device: torch.device

    @property
    def num_passes(self) -> int:
        """Of the denoiser for a step: 2 with guidance that is not distilled."""

    def look(self, frame: np.ndarray) -> Any:
        """What a session keeps in mind of its start frame (H, W, 3)."""

    def condition(self, prompts: Mix, image: Any) -> Any:
        """What a section is conditioned on, `image` as `look` said."""

    def pack(self, pieces: Sequence[Piece], *, target: Tensor) -> Context:
        """The context of one row, float32 pieces on the CPU, for a target at indices `target` (1, S).

        Raises ValueError for kernels that it has no projections for.
        """

    def velocity(self, rows: Sequence[Row]) -> Tensor:
        """(B, C, S, h, w) float32 of rows of one layout and size; all have caches, or none has."""
