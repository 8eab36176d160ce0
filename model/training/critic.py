"""The critic: tells recorded latents from generated ones, so that these are made sharp and whole.

Legend: C x h x w one latent.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..rooms.depth import ConvBlock
from ..rooms.dit import DiT
from .sequences import noise_like


class Critic(nn.Module):
    """Tells recorded latents (B, C, h, w) from generated ones, in patches: logits (B, n)."""

    def __init__(self, channels: int = 16, width: int = 96) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), ConvBlock(width), ConvBlock(width))
        self.coarse = nn.Sequential(
            nn.Conv2d(width, 2 * width, 2, 2), ConvBlock(2 * width), ConvBlock(2 * width), nn.ReLU()
        )
        self.near, self.far = nn.Conv2d(width, 1, 1), nn.Conv2d(2 * width, 1, 1)

    def forward(self, latents: Tensor) -> Tensor:
        fine = self.fine(latents.contiguous(memory_format=torch.channels_last))
        return torch.cat([self.near(F.relu(fine)).flatten(1), self.far(self.coarse(fine)).flatten(1)], 1).float()


class Contest(nn.Module):
    """Both sides, trained together."""

    def __init__(self, dit: DiT, critic: Critic) -> None:
        super().__init__()
        self.dit, self.critic = dit, critic


def critic_loss(
    critic: Critic, clean: Tensor, made: Tensor, jitter: float, *, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """How badly the critic tells pairs apart, and how much it changes under noise.

    The pairing is that of R3GAN (arXiv 2501.05441, Eq. 2); finite differences keep it smooth as in Seaweed-APT (arXiv
    2501.08316, section 3.4).
    """
    real, false = judged(critic, clean), judged(critic, made)
    moved = (
        (judged(critic, x + jitter * noise_like(x, generator)) - logits).square().mean()
        for x, logits in ((clean, real), (made, false))
    )
    return F.softplus(false - real).mean(), sum(moved, start=torch.zeros((), device=clean.device))


def judged(critic: Critic, latents: Tensor) -> Tensor:
    """Logits of `latents` (..., C, h, w), those of all patches."""
    with torch.autocast(latents.device.type, torch.bfloat16):
        logits: Tensor = critic(latents.flatten(0, -4))
    return logits


def pull(loss: Tensor, dit: DiT) -> Tensor:
    """The norm of the loss's gradient on the output layer (VQGAN's adaptive weight, arXiv 2012.09841, Eq. 7)."""
    norm: Tensor = torch.autograd.grad(loss, dit.unembed.weight, retain_graph=True)[0].norm()
    return norm
