"""Seeing one camera's pictures from another, by their inverse depth: how the world of `rooms` keeps its shape.

Legend: B targets, K source views of each, m x m and n x n inverse depth maps in 1/m, H x H pixels. Poses are
relative to the target's camera as `camera.relative` gives them: metres ahead, metres to the left, radians.
A position in a picture is (u, v): tangents to the right and downwards, from -edge to edge.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

NEAREST = 0.05  # share of its distance at which a point counts as behind the camera
CELLS, CELL = 64, 0.05  # of a ground map; CELL in metres
MOST_DOUBT = 5.8  # squared error of a source's depth plus metres that it stood away, from which on it shows nothing
SAME_SURFACE = 0.9  # share of the nearest point's inverse depth that still belongs to its surface


class Seen(NamedTuple):
    """What source views show of a target: `depth` (B, n, n), `known` (B, n, n) in {0, 1} where they show any."""

    depth: Tensor
    known: Tensor


def tangents(size: int, edge: float, device: torch.device) -> Tensor:
    """Positions (size,) of the pixels along one side of a picture."""
    return ((torch.arange(size, device=device) + 0.5) / size * 2 - 1) * edge


def project(poses: Tensor, depth: Tensor, edge: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where a target sees the pixels of sources at `poses` (..., 3) with inverse `depth` (..., m, m).

    Returns u, v, the inverse depth seen from the target, and which points are in front of it, all (..., m, m).
    """
    offset = tangents(depth.shape[-1], edge, depth.device)
    ahead, left, turned = (x[..., None, None] for x in poses.unbind(-1))
    cos, sin = turned.cos(), turned.sin()
    far = cos + offset * sin + ahead * depth
    right = offset * cos - sin - left * depth
    front = far > NEAREST
    far = far.clamp(min=NEAREST)
    return right / far, offset[:, None] / far, depth / far, front


def splat(poses: Tensor, depth: Tensor, valid: Tensor, *, edge: float, size: int) -> Seen:
    """The inverse depth that a target sees, from sources (B, K, 3), (B, K, m, m) of which `valid` (B, K) count.

    Of the points that fall on one pixel the nearest surface is kept, averaged; small gaps are closed.
    """
    b = len(depth)
    u, v, seen, front = project(poses, depth, edge)
    column, row = (((x / edge + 1) * (size / 2)).floor().long() for x in (u, v))
    front &= (column >= 0) & (column < size) & (row >= 0) & (row < size) & valid[..., None, None]
    owner = torch.arange(b, device=depth.device).view(b, 1, 1, 1)
    nowhere = b * size * size
    index = torch.where(front, (owner * size + row) * size + column, nowhere).flatten()
    seen = seen.flatten()
    nearest = seen.new_zeros(nowhere + 1).scatter_reduce(0, index, seen, "amax")
    weight = (seen > SAME_SURFACE * nearest[index]).to(seen.dtype)
    total = seen.new_zeros(nowhere + 1).index_add(0, index, weight)
    mean = seen.new_zeros(nowhere + 1).index_add(0, index, weight * seen) / total.clamp(min=1)
    shape = (b, 1, size, size)
    known, mean = total[:-1].gt(0).to(seen.dtype).view(shape), mean[:-1].view(shape)
    for _ in range(2):  # a gap with three known neighbours is one that sampling left
        share = F.avg_pool2d(known, 3, 1, 1)
        gap = (known == 0) & (share > 2.5 / 9)
        mean = torch.where(gap, F.avg_pool2d(mean * known, 3, 1, 1) / share.clamp(min=1e-6), mean)
        known = torch.where(gap, 1.0, known)
    return Seen(mean[:, 0], known[:, 0])


def over(one: Seen, other: Seen) -> Seen:
    """What `one` shows, and where it shows nothing, the `other`."""
    return Seen(torch.where(one.known > 0, one.depth, other.depth), torch.maximum(one.known, other.known))


def spread(seen: Seen) -> Tensor:
    """Inverse depth (B, n, n) everywhere: what is unknown takes a mean of what is known near it."""
    levels = [(seen.depth[:, None] * seen.known[:, None], seen.known[:, None])]
    while levels[-1][0].shape[-1] > 1:
        levels.append((F.avg_pool2d(levels[-1][0], 2), F.avg_pool2d(levels[-1][1], 2)))
    filled: Tensor = levels[-1][0] / levels[-1][1].clamp(min=1e-6)
    for total, known in reversed(levels[:-1]):
        wide = F.interpolate(filled, scale_factor=2.0, mode="nearest")
        filled = torch.where(known > 0, total / known.clamp(min=1e-6), wide)
    return filled[:, 0]


def look_back(poses: Tensor, depth: Tensor, size: int, edge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Where sources at `poses` (B, K, 3) see the pixels of a target of inverse `depth` (B, H, H), H = `size`.

    Returns sampling positions (B, K, H, H, 2) in [-1, 1] where in view, the inverse depth expected there and
    whether that is in view, both (B, K, H, H).
    """
    offset = tangents(size, edge, depth.device)
    ahead, left, turned = (x[..., None, None] for x in poses.unbind(-1))
    cos, sin = turned.cos(), turned.sin()
    near = depth[:, None]
    forward, right = 1 - ahead * near, offset + left * near
    far = forward * cos - right * sin
    front = far > NEAREST
    far = far.clamp(min=NEAREST)
    x = (forward * sin + right * cos) / far / edge
    y = (offset[:, None] / edge).expand_as(far) / far
    inside = front & (x.abs() <= 1) & (y.abs() <= 1)
    return torch.stack([x, y], -1), near / far, inside


def gather(
    poses: Tensor, images: Tensor, depths: Tensor, valid: Tensor, *, seen: Seen, edge: float
) -> tuple[Tensor, Tensor]:
    """A target's picture (B, 3, H, H) of surfaces `seen`, put together from source views, and its doubt (B, 1, H, H).

    `poses` (B, K, 3), `images` (B, K, 3, H, H), `depths` (B, K, m, m), `valid` (B, K). A source counts where its
    own depth agrees that it sees the same surface, and the more, the nearer it stood. The doubt is that of the best
    source, and infinite where there is none.
    """
    b, k, _, size, _ = images.shape
    depth = F.interpolate(spread(seen)[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    known = F.interpolate(seen.known[:, None], size=(size, size), mode="nearest")[:, 0]
    where, expected, inside = look_back(poses, depth, size, edge)
    where = where.flatten(0, 1)
    colour = F.grid_sample(images.flatten(0, 1), where, padding_mode="border", align_corners=False)
    found = F.grid_sample(depths.flatten(0, 1)[:, None], where, padding_mode="border", align_corners=False)
    off = (found.view(b, k, size, size) - expected) / (0.02 + 0.05 * expected)
    away = poses[..., :2].norm(dim=-1)[..., None, None]
    doubt = (off.square() + away).masked_fill(~(inside & valid[..., None, None]), torch.inf)
    weight = (-2 * (doubt + away)).softmax(1)  # the best source, not an average that blurs
    picture = (colour.view(b, k, 3, size, size) * weight[:, :, None]).sum(1)
    least = F.pad(doubt, (0, 0, 0, 0, 0, 1), value=torch.inf).amin(1, keepdim=True)  # also if there is no source
    is_shown = (least < MOST_DOUBT) & (known[:, None] > 0)
    return torch.where(is_shown, picture, 0.0), torch.where(is_shown, least, torch.inf)


def ground_map(poses: Tensor, depth: Tensor, valid: Tensor, *, edge: float, eye: float) -> Tensor:
    """What stands around a target, seen from above: (B, CELLS, CELLS) in [0, 1], rows from ahead to behind.

    From sources (B, K, 3), (B, K, m, m); a point counts if it is higher than the floor and not far above the
    eye, which is `eye` metres up.
    """
    b, cells = len(depth), CELLS
    u, v, near, front = project(poses, depth, edge)
    near = near.clamp(min=1e-3)
    height = eye - v / near
    row, column = ((cells / 2 - x / near / CELL).floor().long() for x in (torch.ones_like(u), -u))
    front &= (height > 0.12) & (height < eye + 0.3) & valid[..., None, None]
    front &= (row >= 0) & (row < cells) & (column >= 0) & (column < cells)
    owner = torch.arange(b, device=depth.device).view(b, 1, 1, 1)
    index = torch.where(front, (owner * cells + row) * cells + column, b * cells * cells).flatten()
    count = depth.new_zeros(b * cells * cells + 1).index_add(0, index, front.flatten().to(depth.dtype))
    return (count[:-1].view(b, cells, cells) / 2).clamp(max=1)
