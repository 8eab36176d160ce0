"""Train the autoencoder of `rooms` on recorded frames."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..rooms.vae import VAE, VAEConfig
from .loop import Run, fit
from .record import load_episode


@dataclass(frozen=True, slots=True)
class VAETraining:
    batch: int = 32
    rate: float = 1.5e-3
    kl: float = 2e-4
    frames: int = 40_000  # kept in memory, spread over the episodes
    vae: VAEConfig = VAEConfig()


def train_vae(episodes: list[Path], run: Run, training: VAETraining, *, device: str = "cpu", seed: int = 0) -> VAE:
    """Train on the frames of `episodes`; returns the EMA model with latents of unit variance."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator(device).manual_seed(seed)
    images = load_frames(episodes, training.frames, rng)
    model = VAE(training.vae).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.rate, betas=(0.9, 0.99), weight_decay=1e-4)

    def loss(model: nn.Module, step: int) -> dict[str, Tensor]:
        assert isinstance(model, VAE)
        chosen = rng.integers(len(images), size=training.batch)
        return vae_loss(model, to_unit(images[chosen]).to(device), training.kl, generator=generator, warp=step % 2 == 1)

    def sample(model: nn.Module, path: Path) -> None:
        assert isinstance(model, VAE)
        sample_strip(model, to_unit(images[:: len(images) // 8][:8]).to(device), path)

    ema = fit(run, model, optimizers=[optimizer], loss=loss, sample=sample)
    assert isinstance(ema, VAE)
    normalise(ema, to_unit(images[rng.integers(len(images), size=512)]).to(device))
    return ema


def vae_loss(model: VAE, images: Tensor, kl: float, *, generator: torch.Generator, warp: bool) -> dict[str, Tensor]:
    """Reconstruction and KL of images (B, 3, H, W).

    With `warp`, latents and target are moved and scaled alike first, so that what the camera does to
    the picture it does to the latents too (EQ-VAE, arXiv 2502.09509): motion becomes easy to predict.
    """
    with torch.autocast(images.device.type, torch.bfloat16):
        mean, log_variance = model.encoder(images)
        mean, log_variance = mean.float(), log_variance.float()
        latents = mean + torch.randn(mean.shape, generator=generator, device=mean.device) * (log_variance / 2).exp()
        target, mask = images, torch.ones_like(images[:, :1])
        if warp:
            theta = random_affine(len(images), generator)
            latents, target, mask = warped(latents, theta), warped(images, theta), warped(mask, theta).ge(0.999)
        rebuilt = model.decoder(latents.contiguous(memory_format=torch.channels_last)).float()
    error = (rebuilt - target) * mask
    share = mask.float().mean()
    mse, mae = error.square().mean() / share, error.abs().mean() / share
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
    psnr = -10 * (mse.detach() / 4).log10()
    return {"loss": mae + 5 * mse + kl * divergence, "psnr_warp" if warp else "psnr": 2 * psnr, "kl": divergence}


def sample_strip(model: VAE, images: Tensor, path: Path) -> None:
    """Draw images (B, 3, H, W) above what the model makes of them."""
    with torch.inference_mode():
        rebuilt = model.decode(model.encode(images))
    strip = torch.cat([torch.cat(list(images), 2), torch.cat(list(rebuilt), 2)], 1)
    Image.fromarray(to_bytes(strip[None])[0]).save(path)


def random_affine(batch: int, generator: torch.Generator) -> Tensor:
    """Scales and shifts (batch, 2, 3) as `warped` takes them."""
    scale = torch.empty(batch, device=generator.device).uniform_(0.85, 1.2, generator=generator)
    shift = torch.empty(batch, 2, device=generator.device).uniform_(-0.12, 0.12, generator=generator)
    theta = torch.zeros(batch, 2, 3, device=generator.device)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = shift
    return theta


def warped(x: Tensor, theta: Tensor) -> Tensor:
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x.float(), grid, align_corners=False)


def load_frames(episodes: list[Path], count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` frames spread evenly over `episodes`: (count, H, W, 3) uint8."""
    share = -(-count // len(episodes))
    chosen = []
    for path in episodes:
        frames = load_episode(path).frames
        chosen.append(frames[rng.integers(len(frames), size=share)])
    return np.concatenate(chosen)[:count]


def to_unit(frames: np.ndarray) -> Tensor:
    """Frames (B, H, W, 3) uint8 to images (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_bytes(images: Tensor) -> np.ndarray:
    """Images (B, 3, H, W), clipped to [-1, 1], to frames (B, H, W, 3) uint8."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


@torch.no_grad()
def normalise(model: VAE, images: Tensor) -> None:
    """Set the latents' mean and standard deviation per channel to those of `images`."""
    latents = torch.cat([model.encoder(part)[0] for part in images.split(32)])
    model.mean.copy_(latents.mean((0, 2, 3), keepdim=True)[0])
    model.std.copy_(latents.std((0, 2, 3), keepdim=True)[0])
