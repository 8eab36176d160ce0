"""Views from ahead of the camera: what nobody has seen is made up a view at a time.

A camera that turns uncovers two or three columns of pixels a frame, and the likeliest next column is the last one
again: made up so, the unknown comes out as bands. So, when the coming frame would show what neither the frames before
nor memory show, a view from further along is painted first, half of it new, and frames are put together from that too,
until they leave it behind. What it shows that nobody comes to see is forgotten. Where all that is known is flat, as one
recorded frame in twenty is, a scout paints a place of its own: from a bare wall only bare walls would follow.

Legend: B sessions, K sources of each, C x h x w one latent.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..sampling import euler, flow_sigmas
from .camera import Camera, move
from .dit import DiT, Target
from .looks import LooksCache, unit
from .views import Sources

NEWS = 0.02  # share of a frame that nobody has seen from which on a scout is sent
GAP = 4  # frames from one scout to the next, at least
SCOUTS = 2  # that a session keeps
STEPS, SHIFT = 4, 2.0  # of flow matching; shifted towards noise, where it is decided what will be there
FLAT = 0.4  # mean deviation of known latents below which they tell a scout nothing; of recorded frames 0.85
TURNED = (math.radians(24), math.radians(36))  # how far a scout looks ahead of a turn
TURN_AHEAD, MOVE_AHEAD = 8, 4  # frames of the present control


class Scout(NamedTuple):
    """A view that was painted and not shown."""

    latent: np.ndarray  # (C, h, w) float16
    pose: Tensor  # (3,) float32


def news(shares: Tensor) -> Tensor:
    """How much of each frame neither the frame before nor memory shows, by `shares` (B, 2, h, w): (B,)."""
    return 1 - shares.amax(1).mean((1, 2))


def ahead(camera: Camera, poses: Tensor, control: Tensor, *, moved: Tensor) -> Tensor:
    """Where scouts of cameras at `poses` (B, 3) look from, under `control` (B, A) that leads on by `moved` (B, 2)."""
    turn = control[:, 2:]
    angle = (turn.abs() * camera.turn * TURN_AHEAD).clamp(*TURNED) * turn.sign()
    return move(camera, poses, torch.cat([moved * MOVE_AHEAD, angle / camera.turn], 1))


def views_of(scouts: Sequence[Sequence[Scout]], looks: LooksCache, *, device: torch.device) -> Sources | None:
    """What the `scouts` of each session show, SCOUTS of each as far as it has any; None if nobody has one."""
    if not any(scouts):
        return None
    blank = Scout(np.zeros_like(next(scout for row in scouts for scout in row).latent), torch.zeros(3))
    rows = [[*row, *[blank] * (SCOUTS - len(row))] for row in scouts]
    shown = looks.of([scout.latent for row in rows for scout in row])
    images, depths = (part.unflatten(0, (len(rows), SCOUTS)) for part in shown)
    poses = torch.stack([torch.stack([scout.pose for scout in row]) for row in rows]).to(device)
    valid = torch.tensor([[i < len(row) for i in range(SCOUTS)] for row in scouts], device=device)
    return Sources(poses, unit(images), depths, valid)


@torch.inference_mode()
def paint(painter: DiT, base: Tensor, shares: Tensor, *, noise: Tensor) -> Tensor:
    """Views (B, C, h, w) float32 that go on where `base` ends, by its `shares`, from `noise` (B, C, h, w).

    The painter is flow matching (arXiv 2209.03003) on single frames behind masks, distilled to STEPS steps: it sees
    what is known, 0 where nothing is, and no context, which the known part already holds.
    """
    shares = shares.masked_fill(flat(base, shares)[:, None, None, None], 0.0)
    dtype = painter.unembed.weight.dtype
    base, shares = blanked(base, shares).to(dtype), shares.to(dtype)
    control = noise.new_zeros(len(noise), painter.config.num_controls, dtype=dtype)

    def predict(x: Tensor, sigma: Tensor) -> Tensor:
        made: Tensor = painter(Target(x.to(dtype), sigma, control, base, base, shares)).float()
        return made

    return euler(noise, predict, flow_sigmas(STEPS, shift=SHIFT))


def flat(base: Tensor, shares: Tensor) -> Tensor:
    """Whose known part (B,) shows next to nothing: a wall from near, or what is left of one."""
    inside = known(shares)
    area = inside.sum((2, 3), keepdim=True).clamp(min=1)
    mean = (base * inside).sum((2, 3), keepdim=True) / area
    variance = ((base - mean).square() * inside).sum((2, 3), keepdim=True) / area
    return variance.sqrt().mean((1, 2, 3)) < FLAT


def blanked(base: Tensor, shares: Tensor) -> Tensor:
    """The base (B, C, h, w), faded to 0 where less than half of a position is known."""
    return base * known(shares)


def known(shares: Tensor) -> Tensor:
    """(B, 1, h, w) in [0, 1]: 1 where at least half of a position is shown by something."""
    return shares.amax(1, keepdim=True).mul(2).clamp(max=1)
