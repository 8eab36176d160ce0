"""The packer: pieces of history, each with its kernel and its frames' indices, become tokens with rotary phases.

b batch, c latent channels, t frames, h w latent pixels, n tokens, d width of the model.
Every sampling order uses this one packer; an order only decides which frames a piece holds and which indices they get.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rope import Rope, Rotation, pad_whole, phases, pool_whole
from .schedule import TAIL_POOL, Kernel, Segment

MAX_MULTIPLE = 8  # kernels of more than 8 base patches on an axis are pooled down to that first


class KernelError(ValueError):
    """A kernel that cannot be made of base patches."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames that one kernel packs. A `tail` piece is pooled first: each frame alone (ta), or all to one pixel (tc)."""

    latents: Tensor  # (b, c, t, h, w)
    indices: Tensor  # (b, t) absolute frame indices, integer or not
    kernel: Kernel
    valid: Tensor | None = None  # (b, t) bool: the other frames count as zeros; None if all are
    tail: Literal["", "ta", "tc"] = ""


@dataclass(frozen=True, slots=True)
class Packed:
    """A context: tokens in the order of the pieces. Attention must leave out tokens that are not valid."""

    tokens: Tensor  # (b, n, d)
    rotation: Rotation  # (b, n, head size)
    valid: Tensor  # (b, n) bool: at least one frame under the token is valid


class Packer(nn.Module):
    """Patchify projections, one per kernel, that start as the base projection of the average-pooled latents."""

    def __init__(self, projection: nn.Conv3d, *, kernels: Iterable[Kernel], rope: Rope) -> None:
        """`projection` is the model's patchify convolution; its kernel is the base patch. It is copied, not kept."""
        super().__init__()
        self.base: Kernel = _triple(projection.kernel_size)
        self.rope = rope
        reduced = {reduce_kernel(kernel, base=self.base)[1] for kernel in kernels}
        self.projections = nn.ModuleDict({_key(kernel): tile(projection, kernel=kernel) for kernel in sorted(reduced)})

    def forward(self, pieces: Sequence[Piece]) -> Packed:
        """Pack `pieces`; the tokens of each stand together, frame by frame and row by row."""
        parts = [self._tail(piece) if piece.tail else self._segment(piece) for piece in pieces]
        return Packed(
            tokens=torch.cat([part.tokens for part in parts], dim=1),
            rotation=Rotation(
                torch.cat([part.rotation.cos for part in parts], dim=1),
                torch.cat([part.rotation.sin for part in parts], dim=1),
            ),
            valid=torch.cat([part.valid for part in parts], dim=1),
        )

    def _segment(self, piece: Piece) -> Packed:
        latents = piece.latents
        if piece.valid is not None:
            latents = torch.where(piece.valid[:, None, :, None, None], latents, 0)
        tokens = self._project(latents, piece.kernel)
        pool = self._patches(piece.kernel)
        rotation = phases(self.rope, piece.indices, grid=self._grid(latents), pools=[pool])
        return Packed(tokens, rotation, self._token_validity(piece, tokens.shape[1]))

    def _tail(self, piece: Piece) -> Packed:
        (b, _, t, _, _), grid = piece.latents.shape, self._grid(piece.latents)
        _, rows, columns = self._patches(piece.kernel)
        if piece.tail == "tc":
            pooled = piece.latents.mean(dim=(2, 3, 4), keepdim=True)
            pools = [(t, *grid)]
        else:
            frames = piece.latents.transpose(1, 2).flatten(0, 1).unsqueeze(2)
            pooled = pool_whole(frames, (1, TAIL_POOL, TAIL_POOL))
            pools = [self._patches((self.base[0], TAIL_POOL, TAIL_POOL)), (1, rows, columns)]
        tokens = self._project(pooled, piece.kernel).unflatten(0, (b, -1)).flatten(1, 2)
        rotation = phases(self.rope, piece.indices, grid=grid, pools=pools)
        return Packed(tokens, rotation, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))

    def _project(self, latents: Tensor, kernel: Kernel) -> Tensor:
        pool, reduced = reduce_kernel(kernel, base=self.base)
        latents = pad_whole(latents, kernel)
        if pool != (1, 1, 1):
            latents = pool_whole(latents, pool)
        tokens: Tensor = self.projections[_key(reduced)](latents)
        return tokens.flatten(2).transpose(1, 2)

    def _patches(self, kernel: Kernel) -> Kernel:
        """How many base patches lie under `kernel`, by axis."""
        return _triple([size // patch for size, patch in zip(kernel, self.base, strict=True)])

    def _grid(self, latents: Tensor) -> tuple[int, int]:
        """Base patches of a frame, (rows, columns)."""
        return -(-latents.shape[3] // self.base[1]), -(-latents.shape[4] // self.base[2])

    def _token_validity(self, piece: Piece, num_tokens: int) -> Tensor:
        b, t = piece.indices.shape
        if piece.valid is None:
            return torch.ones(b, num_tokens, dtype=torch.bool, device=piece.latents.device)
        period = piece.kernel[0]
        groups = F.pad(piece.valid, (0, -t % period)).view(b, -1, period).any(dim=2)
        return groups.repeat_interleave(num_tokens // groups.shape[1], dim=1)


def cut(segments: Sequence[Segment], latents: Tensor, *, indices: Tensor, valid: Tensor | None = None) -> list[Piece]:
    """Cut `latents` (b, c, t, h, w) with their `indices` (b, t) into one piece per segment, in order."""
    lengths = [segment.frames for segment in segments]
    validity = valid.split(lengths, dim=1) if valid is not None else [None] * len(lengths)
    parts = zip(segments, latents.split(lengths, dim=2), indices.split(lengths, dim=1), validity, strict=True)
    return [Piece(frames, places, segment.kernel, is_valid) for segment, frames, places, is_valid in parts]


def tile(projection: nn.Conv3d, *, kernel: Kernel) -> nn.Conv3d:
    """A projection with `kernel` that equals the base `projection` of the average-pooled input, free to learn on."""
    wide = nn.Conv3d(
        projection.in_channels,
        projection.out_channels,
        kernel_size=kernel,
        stride=kernel,
        bias=projection.bias is not None,
        device=projection.weight.device,
        dtype=projection.weight.dtype,
    )
    weight = projection.weight.detach()
    for axis, (size, patch) in enumerate(zip(kernel, _triple(projection.kernel_size), strict=True), start=2):
        weight = weight.repeat_interleave(size // patch, dim=axis) / (size // patch)
    with torch.no_grad():
        wide.weight.copy_(weight)
        if projection.bias is not None and wide.bias is not None:
            wide.bias.copy_(projection.bias)
    return wide


def reduce_kernel(kernel: Kernel, *, base: Kernel) -> tuple[Kernel, Kernel]:
    """(pooling, kernel of the projection after it): only kernels beyond 8 base patches on an axis are pooled."""
    pools, sizes = [], []
    for size, patch in zip(kernel, base, strict=True):
        pool = 1
        while size > MAX_MULTIPLE * patch * pool:
            pool *= 2
        if size % (patch * pool):
            raise KernelError(f"expected a kernel made of {pool} x {patch} latent pixels, got {size} in {kernel}")
        pools.append(pool)
        sizes.append(size // pool)
    return _triple(pools), _triple(sizes)


def _triple(sizes: Sequence[int]) -> Kernel:
    t, h, w = sizes
    return t, h, w


def _key(kernel: Kernel) -> str:
    return "k{}h{}w{}".format(*kernel)
