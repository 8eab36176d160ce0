"""Train the visual odometry of `rooms` on latents and poses of recorded episodes."""

import numpy as np
import torch
from torch import Tensor, nn

from ..rooms.camera import Camera, displacement_between
from ..rooms.odometry import Odometry
from .dit import Latents
from .loop import Run, fit

BATCH = 128


def train_odometry(data: Latents, run: Run, *, camera: Camera, device: str = "cpu", seed: int = 0) -> Odometry:
    """Train on pairs of neighbouring latents, blurred by noise as generated ones are; returns the EMA model."""
    torch.manual_seed(seed)
    model = Odometry(data.latents.shape[2], data.latents.shape[3]).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def loss(model: nn.Module, step: int) -> dict[str, Tensor]:
        assert isinstance(model, Odometry)
        rng = np.random.default_rng((seed, step))
        previous, latent, controls, moved = (x.to(device) for x in draw_pairs(data, camera, BATCH, rng))
        level = torch.from_numpy(rng.uniform(0, 0.3, (BATCH, 1, 1, 1)).astype(np.float32)).to(device)
        noise = torch.from_numpy(rng.standard_normal((2, *latent.shape), np.float32)).to(device)
        error = model(camera, previous + level * noise[0], latent + level * noise[1], controls) - moved
        distance = error.norm(dim=1).mean()
        still = moved.norm(dim=1).mean().detach()
        return {"loss": distance, "motion": still}

    ema = fit(run, model, optimizers=[optimizer], loss=loss)
    assert isinstance(ema, Odometry)
    return ema


def draw_pairs(data: Latents, camera: Camera, batch: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Previous and next latents (B, C, h, w), controls (B, 3), and how far the camera went (B, 2) in steps."""
    episode = rng.integers(data.latents.shape[0], size=batch)
    frame = rng.integers(1, data.latents.shape[1], size=batch)
    pair = (data.latents[episode, frame - 1], data.latents[episode, frame], data.controls[episode, frame])
    previous, latent, controls = (torch.from_numpy(np.asarray(x, np.float32)) for x in pair)
    before, after = (torch.from_numpy(data.poses[episode, frame - lag]) for lag in (1, 0))
    return previous, latent, controls, displacement_between(camera, before, after)
