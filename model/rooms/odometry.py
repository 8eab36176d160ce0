"""Visual odometry of `rooms`: how far the camera really moved, read from the pictures.

A wall may stop the commanded motion. The model shows whether it did; the pose kept for the memory bank
must follow what was shown, not what was commanded.
"""

import torch
from torch import Tensor, nn

from .camera import Camera, turned


class Odometry(nn.Module):
    def __init__(self, channels: int = 16, size: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2 * channels, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * (size // 4) ** 2, 128),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Linear(128 + 3, 128), nn.ReLU(), nn.Linear(128, 2))

    def forward(self, camera: Camera, previous: Tensor, latent: Tensor, controls: Tensor) -> Tensor:
        """Displacement (B, 2), ahead and to the right of the new heading, in commanded steps (1 is full speed).

        Latents (B, C, h, w); controls (B, 3). It is never longer than the commanded one, but may point
        elsewhere: along a wall.
        """
        aligned, _ = turned(camera, previous, controls[:, 2])
        seen = self.layers(torch.cat([aligned, latent - aligned], 1))
        direction: Tensor = self.head(torch.cat([seen, controls], 1))
        direction = direction / direction.norm(dim=1, keepdim=True).clamp(min=1)
        speed: Tensor = controls[:, :2].norm(dim=1, keepdim=True)
        return direction * speed
