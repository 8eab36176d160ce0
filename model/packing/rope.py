"""Rotary phases of packed tokens: pooled like the tokens themselves (FramePack's rule), or at the mean position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .schedule import Grid, Kernel


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary embedding over (time, height, width); the defaults are HunyuanVideo's as FramePack uses it."""

    dims: tuple[int, int, int] = (16, 56, 56)  # of a head's channels, even; their sum is the head's size
    theta: float = 256.0
    pooling: Literal["phase", "angle"] = "phase"
    is_double: bool = False  # angles in float64, as Wan's


class Rotation(NamedTuple):
    """What turns queries and keys, (b, n, head size) float32 each, every value twice for its pair of channels."""

    cos: Tensor
    sin: Tensor


def phases(rope: Rope, indices: Tensor, *, grid: Grid, pools: Sequence[Kernel] = ()) -> Rotation:
    """Phases of the tokens of frames at `indices` (b, t), whose base patches make a `grid` of (h, w).

    `pools` says how many patches each token covers in (t, h, w), one pooling after the other; edges repeat to fill
    whole tokens. With `phase` pooling cos and sin are averaged apart, as the released weights expect: the magnitude
    of fast components shrinks. With `angle` pooling a token turns exactly by its mean position.
    """
    angles = _angles(rope, indices, grid)
    if rope.pooling == "angle":
        pooled = _pool(angles, pools)
        return Rotation(_flat(pooled.cos().float()), _flat(pooled.sin().float()))
    return Rotation(_flat(_pool(angles.cos().float(), pools)), _flat(_pool(angles.sin().float(), pools)))


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn queries or keys `x` (b, heads, n, head size) in float32; channels 2i and 2i + 1 are one pair."""
    cos, sin = rotation.cos.unsqueeze(1), rotation.sin.unsqueeze(1)
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((-odd, even), dim=-1).flatten(-2)
    return (x.float() * cos + turned * sin).to(x.dtype)


def pad_whole(x: Tensor, kernel: Kernel) -> Tensor:
    """Repeat the last frame, row and column of `x` (b, c, t, h, w) until whole kernels fit."""
    (t, h, w), (_, _, frames, height, width) = kernel, x.shape
    return F.pad(x, (0, -width % w, 0, -height % h, 0, -frames % t), mode="replicate")


def pool_whole(x: Tensor, kernel: Kernel) -> Tensor:
    """Average `x` (b, c, t, h, w) over whole kernels, edges repeated; in float32, since bfloat16 lacks this on CPU."""
    return F.avg_pool3d(pad_whole(x, kernel).float(), kernel).to(x.dtype)


def _angles(rope: Rope, indices: Tensor, grid: Grid) -> Tensor:
    """(b, head size / 2, t, h, w)."""
    (b, t), (h, w) = indices.shape, grid
    dtype = torch.float64 if rope.is_double else torch.float32
    rows = torch.arange(h, device=indices.device)
    columns = torch.arange(w, device=indices.device)
    shapes = ((b, 1, t, 1, 1), (1, 1, 1, h, 1), (1, 1, 1, 1, w))
    angles = []
    for dim, positions, shape in zip(rope.dims, (indices, rows, columns), shapes, strict=True):
        exponents = torch.arange(0, dim, 2, dtype=dtype, device=indices.device) / dim
        frequencies = (1.0 / rope.theta**exponents).view(1, -1, 1, 1, 1)
        angles.append((positions.to(dtype).view(shape) * frequencies).expand(b, -1, t, h, w))
    return torch.cat(angles, dim=1)


def _pool(x: Tensor, pools: Sequence[Kernel]) -> Tensor:
    for kernel in pools:
        x = pool_whole(x, kernel)
    return x


def _flat(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2).repeat_interleave(2, dim=-1)
