"""Ego-motion of `rooms`: what the commanded motion does to the pose and to the picture.

Poses are (x, y, heading) in metres and radians, counter-clockwise seen from above. Turning is exact: a
rotation moves every pixel by a homography that needs no depth. Translation is only what was commanded: a
wall may stop it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Camera:
    """Pinhole camera with a square picture, moved by controls (move, strafe, turn) in [-1, 1]."""

    fov: float = math.radians(75.0)  # horizontal and vertical
    step: float = 0.16  # metres per frame at move = 1
    turn: float = math.radians(6.0)  # radians per frame at turn = 1, clockwise
    height: float = 1.5  # metres above the floor

    @property
    def edge(self) -> float:
        """Half the picture's width at distance 1."""
        return math.tan(self.fov / 2)


def move(camera: Camera, poses: Tensor, controls: Tensor) -> Tensor:
    """Poses (..., 3) after one frame of controls (..., 3) with nothing in the way."""
    heading = poses[..., 2] - camera.turn * controls[..., 2]
    ahead, right = camera.step * controls[..., 0], camera.step * controls[..., 1]
    x = poses[..., 0] + ahead * heading.cos() + right * heading.sin()
    y = poses[..., 1] + ahead * heading.sin() - right * heading.cos()
    return torch.stack([x, y, heading], -1)


def moved_along(camera: Camera, pose: Tensor, controls: Tensor) -> Tensor:
    """Poses (n, 3) that `controls` (n, 3) lead to from `pose` (3,), one after the other."""
    heading = pose[2] - camera.turn * controls[:, 2].cumsum(0)
    here = torch.cat([torch.zeros(len(controls), 2), heading[:, None]], 1)
    steps = move(camera, here, controls * controls.new_tensor([1.0, 1.0, 0.0]))[:, :2]
    return torch.cat([pose[:2] + steps.cumsum(0), heading[:, None]], 1)


def relative(poses: Tensor, reference: Tensor) -> Tensor:
    """Poses (..., 3) seen from `reference` (..., 3): (metres ahead, metres to the left, radians)."""
    dx, dy = poses[..., 0] - reference[..., 0], poses[..., 1] - reference[..., 1]
    sin, cos = reference[..., 2].sin(), reference[..., 2].cos()
    return torch.stack([dx * cos + dy * sin, dy * cos - dx * sin, poses[..., 2] - reference[..., 2]], -1)


def displacement_between(camera: Camera, before: Tensor, after: Tensor) -> Tensor:
    """From pose to pose (..., 3), ahead and to the right of the later heading, in steps: (..., 2)."""
    turned_first = torch.cat([before[..., :2], after[..., 2:]], -1)
    return relative(after, turned_first)[..., :2] / camera.step * after.new_tensor([1.0, -1.0])


def rays(camera: Camera, size: int) -> Tensor:
    """Azimuth (counter-clockwise) and elevation of the pixels of a size x size picture: (size, size, 2)."""
    offset = (torch.arange(size) + 0.5) / size * 2 - 1
    right, up = offset[None, :] * camera.edge, -offset[:, None] * camera.edge
    azimuth = -right.atan().expand(size, size)
    elevation = (up / (1 + right.square()).sqrt()).atan()
    return torch.stack([azimuth, elevation], -1)


def turned(camera: Camera, latents: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """Latents (B, C, h, w) as seen after turning by `turn` (B,) in [-1, 1] of a frame's rotation.

    Also returns which positions were in view before, (B, 1, h, w) in {0, 1}.
    """
    angle = camera.turn * turn
    offset = (torch.arange(latents.shape[-1], device=latents.device) + 0.5) / latents.shape[-1] * 2 - 1
    right = offset.view(1, 1, -1) * camera.edge
    down = offset.view(1, -1, 1) * camera.edge
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    depth = cos - right * sin
    grid = torch.stack(torch.broadcast_tensors((right * cos + sin) / depth, down / depth), -1) / camera.edge
    seen = grid.abs().amax(-1).le(1.0)[:, None].to(latents.dtype)
    warped = F.grid_sample(latents.float(), grid.float(), padding_mode="border", align_corners=False)
    return warped.to(latents.dtype), seen
