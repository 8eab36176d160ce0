"""What the commanded motion does to the picture: motion compensation before the diffusion transformer corrects it.

The previous frame is seen from the next camera by its own geometry: a rotation that is exact, and a
displacement over an inverse depth that a small network reads from the latents. The same network tells
how much of the commanded displacement a wall would stop. Warping pixels and encoding them again is ten
times closer to the true latents than warping latents (see the design notes in README.md).

Legend: B frames, C x h x w one latent, H x W pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .camera import Camera, turned
from .vae import VAE


class Preview(NamedTuple):
    """The previous frame as the next camera would see it."""

    base: Tensor  # (B, C, h, w): its latent
    seen: Tensor  # (B, 1, h, w) in [0, 1]: the share of each position that was in view before
    displacement: Tensor  # (B, 2): expected, ahead and to the right of the new heading, in steps


class Motion(nn.Module):
    """Expected displacement and inverse depth of the coming view, from the previous latent and the control."""

    def __init__(self, channels: int = 16, size: int = 16, width: int = 64) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), *(ConvBlock(width) for _ in range(3)))
        self.reach = nn.Sequential(
            nn.Conv2d(width, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * (size // 2) ** 2, 128),
            nn.ReLU(),
        )
        self.stop = nn.Sequential(nn.Linear(128 + 3 + 5, 128), nn.ReLU(), nn.Linear(128, 2))
        self.depth = nn.Sequential(
            nn.Conv2d(width + 2, width, 3, padding=1),
            ConvBlock(width),
            nn.ReLU(),
            nn.Conv2d(width, 4 * 32, 1),
            nn.PixelShuffle(2),
            ConvBlock(32),
            nn.ReLU(),
            nn.Conv2d(32, 4, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def features(self, camera: Camera, latents: Tensor, turn: Tensor) -> Tensor:
        """Features (B, width, h, w) of `latents` (B, C, h, w), already turned by `turn` (B,)."""
        features: Tensor = self.trunk(turned(camera, latents, turn)[0])
        return features

    def displacement(self, features: Tensor, controls: Tensor, last: Tensor) -> Tensor:
        """Where `controls` (B, 3) lead, walls considered: (B, 2) ahead and right, in steps.

        `last` (B, 5) is how far the previous frame's control really led (2) and that control (3): a wall
        that is close enough to stop the camera fills the view, and shows its distance only by stopping it.
        """
        stopped: Tensor = self.stop(torch.cat([self.reach(features), controls, last], 1))
        commanded = controls[:, :2]
        moved, longest = commanded - stopped, commanded.norm(dim=1, keepdim=True)
        shorten: Tensor = (longest / moved.norm(dim=1, keepdim=True).clamp(min=1e-6)).clamp(max=1)
        return moved * shorten

    def inverse_depth(self, features: Tensor, displacement: Tensor) -> Tensor:
        """Inverse depth (B, 4h, 4w) in 1/m of the view after `displacement` (B, 2) in steps."""
        where = displacement[:, :, None, None].expand(-1, -1, *features.shape[2:])
        raw: Tensor = self.depth(torch.cat([features, where], 1))[:, 0]
        depth: Tensor = 3.0 * (raw - 2).sigmoid()
        return depth

    def preview(self, camera: Camera, vae: VAE, latents: Tensor, controls: Tensor, last: Tensor) -> Preview:
        """How the frames of `latents` (B, C, h, w) look after one frame of `controls` (B, 3); see `displacement`."""
        features = self.features(camera, latents, controls[:, 2])
        displacement = self.displacement(features, controls, last)
        depth = self.inverse_depth(features, displacement)
        images = vae.decode(latents)
        warped, seen = see_from(camera, images.float(), controls[:, 2].float(), displacement.float(), depth.float())
        base = vae.encode(warped.to(images.dtype).contiguous(memory_format=torch.channels_last))
        return Preview(base, F.adaptive_avg_pool2d(seen, latents.shape[-1]), displacement)


class ConvBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        return x + change


def see_from(
    camera: Camera, images: Tensor, turn: Tensor, displacement: Tensor, inverse_depth: Tensor
) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) seen by a camera that turned by `turn` (B,) frames, then moved by `displacement` (B, 2).

    `inverse_depth` (B, n, n) is that of the new view. Returns the images and a mask (B, 1, H, W) of what
    was in view. Every pixel of the new view is carried back along its ray (backward warping), so nothing
    is left empty; what was hidden shows what hid it.
    """
    size = images.shape[-1]
    depth = F.interpolate(inverse_depth[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    offset = ((torch.arange(size, device=images.device) + 0.5) / size * 2 - 1) * camera.edge
    ahead, right = (camera.step * displacement).unbind(1)
    x = offset[None, None, :] + right[:, None, None] * depth
    z = 1 + ahead[:, None, None] * depth
    angle = camera.turn * turn
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    far = (z * cos - x * sin).clamp(min=0.05)
    grid = torch.stack([(x * cos + z * sin) / far, offset[None, :, None] / far], -1) / camera.edge
    seen = grid.abs().amax(-1).le(1.0)[:, None].to(images.dtype)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False), seen
