"""The autoencoder of `rooms`: 8x in space, 16 channels, a decoder quick enough for a CPU.

Legend: B images, C latent channels, H x W pixels, h x w = H/8 x W/8 latent positions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class VAEConfig:
    latent_channels: int = 16
    patch: int = 2  # pixels, high and wide, that the first stage takes as one position
    stem: int = 0  # channels of one more convolution beside the pixels; 0: there is none
    widths: tuple[int, ...] = (64, 64, 128)  # of the stages, each half as large as the one before
    depths: tuple[int, ...] = (1, 2, 3)  # residual blocks of each

    @property
    def colours(self) -> int:
        """Channels of a position of pixels."""
        return 3 * self.patch**2


QUICK = VAEConfig(patch=4, stem=96, widths=(64, 128), depths=(1, 2))  # shipped: distilled from one like the default


class ResidualBlock(nn.Module):
    """Without normalisation, which costs as much as the convolutions on a CPU; it starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv2(F.silu(self.conv1(F.silu(x))))
        return x + change


class Encoder(nn.Module):
    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(config.patch)]
        if config.stem:
            layers += [nn.Conv2d(config.colours, config.stem, 3, padding=1), nn.SiLU()]
        layers.append(nn.Conv2d(config.stem or config.colours, config.widths[0], 3, padding=1))
        for i, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            if i:
                layers.append(nn.Conv2d(config.widths[i - 1], width, 2, stride=2))
            layers += [ResidualBlock(width) for _ in range(depth)]
        layers.append(nn.Conv2d(config.widths[-1], 2 * config.latent_channels, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) in [-1, 1] to mean and log variance, each (B, C, h, w)."""
        mean, log_variance = self.layers(images).chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 4)


class Decoder(nn.Module):
    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths, depths = config.widths[::-1], config.depths[::-1]
        layers: list[nn.Module] = [nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)]
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if i:
                layers += [nn.Conv2d(widths[i - 1], 4 * width, 1), nn.PixelShuffle(2)]
            layers += [ResidualBlock(width) for _ in range(depth)]
        if config.stem:
            layers += [nn.SiLU(), nn.Conv2d(widths[-1], config.stem, 3, padding=1)]
        layers += [nn.SiLU(), nn.Conv2d(config.stem or widths[-1], config.colours, 3, padding=1)]
        layers.append(nn.PixelShuffle(config.patch))
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) to images (B, 3, H, W), nominally in [-1, 1]."""
        images: Tensor = self.layers(latents)
        return images


class VAE(nn.Module):
    """Encoder and decoder around latents of unit variance per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.register_buffer("mean", torch.zeros(config.latent_channels, 1, 1))
        self.register_buffer("std", torch.ones(config.latent_channels, 1, 1))

    def encode(self, images: Tensor) -> Tensor:
        """The most likely latents (B, C, h, w), normalised, of images (B, 3, H, W) in [-1, 1]."""
        mean: Tensor = self.encoder(images)[0]
        return (mean - self.mean) / self.std

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W), nominally in [-1, 1], of normalised latents (B, C, h, w)."""
        images: Tensor = self.decoder(latents * self.std + self.mean)
        return images
