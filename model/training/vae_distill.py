"""Distill the autoencoder of `rooms` into a smaller one, quick enough for play: the same latents, the same pictures.

Legend: B images, C latent channels, H x W pixels, h x w = H/8 x W/8 latent positions.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..rooms.vae import VAE
from .loop import Run, fit
from .vae import load_frames, random_affine, sample_strip, to_unit, warped


@dataclass(frozen=True, slots=True)
class VAEDistilling:
    batch: int = 16
    rate: float = 1e-3
    frames: int = 40_000  # kept in memory, spread over the episodes
    noise: float = 0.3  # the most that is added to latents


def distill_vae(
    episodes: list[Path],
    student: VAE,
    teacher: VAE,
    run: Run,
    distilling: VAEDistilling,
    *,
    seed: int = 0,
) -> VAE:
    """Train `student` to do what `teacher` does on the frames of `episodes`; returns the EMA model."""
    rng, device = np.random.default_rng(seed), teacher.mean.device
    generator = torch.Generator(device).manual_seed(seed)
    images = load_frames(episodes, distilling.frames, rng)
    teacher.requires_grad_(False)
    borrow(student, teacher)
    for model in (student, teacher):
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(student.parameters(), lr=distilling.rate, betas=(0.9, 0.99), weight_decay=1e-4)

    def loss(model: nn.Module, step: int) -> dict[str, Tensor]:  # noqa: ARG001 - every step is like every other
        assert isinstance(model, VAE)
        drawn = to_unit(images[rng.integers(len(images), size=2 * distilling.batch)]).to(device)
        return distilling_loss(model, teacher, pasted(drawn, generator), distilling.noise, generator)

    def sample(model: nn.Module, path: Path) -> None:
        assert isinstance(model, VAE)
        sample_strip(model, to_unit(images[:: len(images) // 8][:8]).to(device), path)

    ema = fit(run, student, optimizers=[optimizer], loss=loss, sample=sample)
    assert isinstance(ema, VAE)
    return ema


@torch.no_grad()
def borrow(student: VAE, teacher: VAE) -> None:
    """Let the student begin with the teacher's normalisation and, from the latents on, with those layers that fit."""
    student.mean.copy_(teacher.mean)
    student.std.copy_(teacher.std)
    for mine, theirs in (
        (student.decoder.layers, teacher.decoder.layers),
        (reversed(student.encoder.layers), reversed(teacher.encoder.layers)),
    ):
        left = iter(theirs)
        for layer in mine:
            shapes = [p.shape for p in layer.parameters()]
            found = next((x for x in left if [p.shape for p in x.parameters()] == shapes), None) if shapes else None
            if found is not None:
                layer.load_state_dict(found.state_dict())


def distilling_loss(
    student: VAE, teacher: VAE, images: Tensor, noise: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """How far the student's latents of images (B, 3, H, W) are from the teacher's, and its pictures of latents.

    Half of these are spoilt by up to `noise`, for a transformer does not make them as an encoder does.
    """
    with torch.no_grad():
        goal = teacher.encode(images)
        levels = torch.rand(len(goal), 1, 1, 1, generator=generator, device=goal.device).sub(0.5).relu() * 2 * noise
        spoilt = goal + levels * torch.randn(goal.shape, generator=generator, device=goal.device)
        spoilt = spoilt.contiguous(memory_format=torch.channels_last)
        picture = teacher.decode(spoilt)
    apart = (student.encode(images) - goal).square().mean()
    made = student.decode(spoilt)
    error = made - picture
    mse = error.square().mean()
    softer = (strengths(made) / strengths(picture)).log().abs().mean()
    return {
        "loss": apart + error.abs().mean() + 5 * mse + 0.3 * softer,
        "latents": -10 * apart.detach().log10(),
        "pictures": -10 * (mse.detach() / 4).log10(),
    }


def strengths(images: Tensor) -> Tensor:
    """How strong the detail of images (B, 3, H, W) is, in each of three octaves from the finest: (B, 3).

    What errs least is softer than what it should be, by a few percent; but pictures of pictures add that up.
    """
    found = []
    for _ in range(3):
        detail = images - F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
        found.append(detail.abs().mean((1, 2, 3)) + 1e-4)
        images = F.avg_pool2d(images, 2)
    return torch.stack(found, 1)


def pasted(images: Tensor, generator: torch.Generator) -> Tensor:
    """The first half of images (2 B, 3, H, W), every other one as at play: resampled, beside a piece of another."""
    images, others = images.chunk(2)
    theta = random_affine(len(images), generator)
    moved = warped(images, theta).where(warped(torch.ones_like(images[:, :1]), theta) > 0.999, others)
    odd = torch.arange(len(images), device=images.device).remainder(2).bool()
    return moved.where(odd[:, None, None, None], images).contiguous(memory_format=torch.channels_last)
