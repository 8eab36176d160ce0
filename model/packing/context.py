"""What a denoiser is shown of one session: its packed history and the phases of the whole sequence.

b rows, m context tokens, n target tokens, D width of the model, d head size.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .pack import Packer, Piece
from .rope import Rotation, phases
from .schedule import Grid


class Context(NamedTuple):
    """Packed history; what is not valid is not in it, so an empty one has no tokens at all."""

    tokens: Tensor  # (b, m, D)
    rotation: Rotation  # (b, m + n, d): the context's, then the target's

    @property
    def layout(self) -> tuple[int, int]:
        """Rows of one layout may be joined: each has positions of its own."""
        return self.tokens.shape[1], self.rotation.cos.shape[1]


def pack_context(packer: Packer, pieces: Sequence[Piece], *, target: Tensor, grid: Grid) -> Context:
    """The context of one row, coarse pieces first as in FramePack, for a target at indices `target` (1, S).

    `grid` is (h, w) of the latents. Tokens without any valid frame are left out.
    """
    aim = _aim(packer, target, grid)
    if not pieces:
        weight = next(iter(packer.parameters()))
        return Context(weight.new_zeros(1, 0, weight.shape[0]), aim)
    packed = packer(sorted(pieces, key=lambda piece: -math.prod(piece.kernel)))
    kept = packed.valid[0]
    cos, sin = (torch.cat([own[:, kept], its], dim=1) for own, its in zip(packed.rotation, aim, strict=True))
    return Context(packed.tokens[:, kept], Rotation(cos, sin))


def retarget(context: Context, packer: Packer, *, target: Tensor, grid: Grid) -> Context:
    """The same history before a target of another size."""
    m, aim = context.tokens.shape[1], _aim(packer, target, grid)
    parts = zip(context.rotation, aim, strict=True)
    return context._replace(rotation=Rotation(*(torch.cat([own[:, :m], its], dim=1) for own, its in parts)))


def join_contexts(contexts: Sequence[Context]) -> Context:
    """One batch of rows of one layout."""
    tokens, rotations = zip(*contexts, strict=True)
    return Context(torch.cat(tokens), Rotation(*(torch.cat(parts) for parts in zip(*rotations, strict=True))))


def _aim(packer: Packer, target: Tensor, grid: Grid) -> Rotation:
    _, patch_h, patch_w = packer.base
    return phases(packer.rope, target, grid=(grid[0] // patch_h, grid[1] // patch_w))
