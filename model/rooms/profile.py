"""What stands around a camera, column by column: the shape of a view, without its details.

Rooms are walls that stand upright on a floor whose distance from the eye is known. So for each column of a picture two
numbers say most of its inverse depth: that of what stands at the height of the eye, and how far up this goes.

Legend: B views, m columns, m x m inverse depth in 1/m. A position in a picture is (u, v): see `geometry`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .geometry import tangents

SAME = 0.08  # share of its inverse depth by which what stands at the height of the eye may differ further up
LEAST = 0.6  # metres from the eye up to what something ends below
BEYOND = 1.15  # times the picture's edge: top of what goes on above it


class Profile(NamedTuple):
    """What stands at the height of the eye."""

    near: Tensor  # (B, m) inverse depth
    top: Tensor  # (B, m) where it ends: the tangent upwards, at most BEYOND the edge


def profile_of(depths: Tensor, *, edge: float) -> Profile:
    """The profile of inverse depth (B, m, m)."""
    half = depths.shape[-1] // 2
    up, at = depths[:, :half].flip(1), tangents(depths.shape[-1], edge, depths.device)[half:]
    near = depths[:, half - 2 : half + 2].mean(1)
    same = (up - near[:, None]).abs() < SAME * near[:, None]
    rows = same.int().cumprod(1).sum(1)
    after = rows.clamp(max=half - 1)
    above, height = up.gather(1, after[:, None])[:, 0], at[after]
    ceiling = height * near / above.clamp(min=1e-3)  # begins there, if it is one, and nothing nearer
    top = torch.where(rows < half, ceiling.clamp(at[(after - 1).clamp(min=0)], height), BEYOND * edge)
    return Profile(near, torch.maximum(top, LEAST * near).clamp(max=BEYOND * edge))


def depths_of(profile: Profile, *, edge: float, eye: float) -> Tensor:
    """Inverse depth (B, m, m) of a floor, what the `profile` says stands on it, and a ceiling."""
    v = tangents(profile.near.shape[-1], edge, profile.near.device)[:, None]
    near = profile.near[:, None]
    top = torch.maximum(profile.top[:, None], LEAST * near).clamp(min=0.02)
    return torch.where(v > 0, torch.maximum(near, v / eye), near * (-v / top).clamp(min=1))
