"""What is where, and where one can go: the networks of `rooms` that know its geometry.

Legend: B frames, C x h x w one latent, 4h x 4w inverse depth in 1/m (n x n in `geometry`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STANDING = 0.25  # share of the command below which a camera stands: walls stop or let slide, they do not let creep


class ConvBlock(nn.Module):
    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        return x + change


class Depth(nn.Module):
    """Inverse depth of a frame, read from its latent alone: what is read from a wrong guess would stay wrong."""

    def __init__(self, channels: int = 16, width: int = 96) -> None:
        super().__init__()
        self.look = nn.Conv2d(channels, width, 3, padding=1)
        self.trunk = nn.Sequential(*(ConvBlock(width, dilation) for dilation in (1, 2, 4, 1, 2, 4)))
        self.up = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, 4 * 48, 1), nn.PixelShuffle(2), ConvBlock(48), nn.Conv2d(48, 4 * 24, 1)
        )
        self.head = nn.Sequential(nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 3, padding=1))

    def forward(self, latents: Tensor) -> Tensor:
        """Inverse depth (B, 4h, 4w) of `latents` (B, C, h, w)."""
        fine = F.pixel_shuffle(self.up(self.trunk(self.look(latents))), 2)
        depth: Tensor = F.softplus(self.head(fine).float() - 1)[:, 0]
        return depth


class Reach(nn.Module):
    """How far a commanded displacement leads before something stops it."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 16), (16, 32), (32, 32), (32, 32)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        self.look = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 16, 128), nn.ReLU())
        self.stop = nn.Sequential(
            nn.Linear(128 + 3 + 5, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2)
        )

    def forward(self, ground: Tensor, controls: Tensor, last: Tensor) -> Tensor:
        """Displacement (B, 2) ahead and to the right of the new heading, in steps, never longer than commanded.

        `ground` (B, CELLS, CELLS) is the map around the camera, already turned; `controls` (B, 3); `last` (B, 5) is how
        far the previous frame's control really led (2), as seen from the new heading, and that control (3).
        """
        stopped: Tensor = self.stop(torch.cat([self.look(ground[:, None]), controls, last], 1))
        commanded = controls[:, :2]
        moved, longest = commanded - stopped, commanded.norm(dim=1, keepdim=True)
        shorten: Tensor = (longest / moved.norm(dim=1, keepdim=True).clamp(min=1e-6)).clamp(max=1)
        return moved * shorten


def unhindered(went: Tensor, control: Tensor) -> Tensor:
    """Displacements (B, 2) that `went` before, but what `control` (B, A) had asked for where the camera stood.

    Else Reach reads from its own guess that something stands there, and the camera stands for ever.
    """
    return torch.where(went.norm(dim=1, keepdim=True) < 1e-6, control[:, :2], went)


def settled(moved: Tensor, commanded: Tensor) -> Tensor:
    """Displacements (B, 2) without the little that is left of `commanded` ones (B, 2) where a wall stops them."""
    stands = moved.norm(dim=1, keepdim=True) < STANDING * commanded.norm(dim=1, keepdim=True)
    return moved.masked_fill(stands, 0.0)
