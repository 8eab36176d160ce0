"""A textured wall, straight ahead of a target camera, as cameras around that see it: exact pictures and depths.

Poses (..., 3) are relative to the target: metres ahead, metres to the left, radians. The wall's picture is a smooth
function of where on the wall a point is.
"""

import torch
from torch import Tensor

from model.rooms.camera import Camera
from model.rooms.geometry import tangents

EDGE = Camera().edge


def wall_depth(poses: Tensor, distance: float, size: int) -> Tensor:
    """Inverse depth (..., size, size) of a wall `distance` metres ahead of the target."""
    u = tangents(size, EDGE, poses.device)
    ahead, turned = poses[..., 0, None], poses[..., 2, None]
    nearness = (turned.cos() + u * turned.sin()) / (distance - ahead)
    return nearness[..., None, :].expand(*poses.shape[:-1], size, size).contiguous()


def wall_picture(poses: Tensor, distance: float, size: int) -> Tensor:
    """Pictures (..., 3, size, size) in [-1, 1] of the same wall."""
    u = tangents(size, EDGE, poses.device)
    ahead, left, turned = (x[..., None] for x in poses.unbind(-1))
    reach = (distance - ahead) / (turned.cos() + u * turned.sin())
    right = ((u * turned.cos() - turned.sin()) * reach - left)[..., None, :]
    down = u[:, None] * reach[..., None, :]
    right, down = torch.broadcast_tensors(right, down)
    return torch.stack([(1.5 * right).sin(), (1.5 * down).cos(), (right + down).sin()], -3)
