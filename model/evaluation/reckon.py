"""Dead reckoning: the poses that a session would have kept had it shown recorded frames itself."""

import numpy as np
import torch

from ..rooms.camera import move, relative
from ..rooms.world import Rooms

_FRAMES_AT_ONCE = 128


@torch.inference_mode()
def reckoned(model: Rooms, latents: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """Poses (T, 3) float32 from the start, by the model's odometry on latents (T, C, h, w), controls (T, A)."""
    shown, commanded = (torch.from_numpy(x.astype(np.float32)).to(model.device) for x in (latents, controls))
    moved = []
    for first in range(1, len(shown), _FRAMES_AT_ONCE):
        latest = shown[first : first + _FRAMES_AT_ONCE]
        previous, steer = shown[first - 1 :][: len(latest)], commanded[first : first + _FRAMES_AT_ONCE]
        moved.append(model.odometry(model.camera, previous, latest, steer))
    poses = [torch.zeros(3)]
    for step in torch.cat([torch.cat(moved), commanded[1:, 2:]], 1).cpu():
        poses.append(move(model.camera, poses[-1], step))
    return torch.stack(poses).numpy()


def from_start(poses: np.ndarray) -> np.ndarray:
    """Poses (T, 3) as a session counts them: float32, the first is zero."""
    seen = torch.from_numpy(np.asarray(poses, np.float64))
    return relative(seen, seen[0]).float().numpy()
