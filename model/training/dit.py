"""Train the diffusion transformer of `rooms`: many targets per sequence, on latents of recorded episodes.

Legend: B sequences, L targets of each, C x h x w one latent.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..rooms.dit import DiT
from .context import predict, previews, shipped
from .latents import Latents
from .loop import Run, fit
from .sequences import RECENT, Batch, Drawing, corrupt, draw, noise_like
from .teachers import Teachers, freeze, with_own_depth, with_targets


@dataclass(frozen=True, slots=True)
class DiTTraining:
    drawing: Drawing = field(default_factory=Drawing)
    rate: float = 2e-3
    context_noise: float = 0.3  # up to this standard deviation, for half of the sequences
    rollout_from: int = 1000  # step after which targets may follow the model's own frames
    rollouts: tuple[float, ...] = (0.4, 0.35, 0.25)  # chances of 0, 1, 2 … own frames in a row before each target
    own_depth: float = 0.5  # share of sequences whose depth the model reads from the pictures itself


def train_dit(
    data: Latents,
    model: DiT,
    teachers: Teachers,
    run: Run,
    training: DiTTraining,
    *,
    seed: int = 0,
) -> DiT:
    """Train `model` on `data`; returns the EMA model."""
    freeze(teachers)
    device = model.unembed.weight.device

    def loss(_model: nn.Module, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, step))
        generator = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        batch = Batch(*(x.to(device) for x in draw(data, training.drawing, rng)))
        batch = with_own_depth(teachers, batch, training.own_depth, generator)
        may_roll = step >= training.rollout_from
        own = int(rng.choice(len(training.rollouts), p=training.rollouts)) if may_roll else 0
        return dit_loss(model, teachers, batch, training, generator=generator, own=own)

    ema = fit(run, model, optimizers=optimizers_of(model, training.rate), loss=loss)
    assert isinstance(ema, DiT)
    return ema


def optimizers_of(model: DiT, rate: float) -> list[Optimizer]:
    """Muon for the blocks' matrices, AdamW for everything else."""
    matrices = [p for name, p in model.blocks.named_parameters() if p.ndim == 2 and "modulation" not in name]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate / 2, betas=(0.9, 0.99), weight_decay=0.01),
    ]


def dit_loss(
    model: DiT, teachers: Teachers, batch: Batch, training: DiTTraining, *, generator: torch.Generator, own: int
) -> dict[str, Tensor]:
    """Flow matching in x-prediction (Rectified Flow, arXiv 2209.03003), all targets of all sequences at once.

    The `own` frames before each target are the model's own one-step predictions instead of recorded ones,
    so that it learns to correct what it does at play time.
    """
    clean = batch.clip[:, RECENT:]
    context = batch._replace(clip=corrupt(batch.clip, training.context_noise, generator))
    showing = shipped(model.config.latent_size)
    for _ in range(own):
        with torch.no_grad():
            context = _after_own(model, teachers, context, noise_like(clean, generator))
    noisy, sigma = noised(clean, generator)
    with torch.no_grad():
        shown = previews(teachers, context, showing, edge=model.config.camera.edge)
    predicted = predict(model, context, showing, shown, noisy=noisy, sigma=sigma)
    error, loss = flow_errors(predicted, clean, sigma)
    first = error[sigma == 1].mean().detach() if bool((sigma == 1).any()) else error.mean().detach()
    base = (shown.base.unflatten(0, clean.shape[:2]) - clean).square().mean()
    return {"loss": loss, f"own_{own}": first, f"base_{own}": base}


def noised(clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Targets (B, L, C, h, w) on their way from noise, a third at pure noise, and their levels (B, L)."""
    sigma, pure = (torch.rand(clean.shape[:2], generator=generator, device=clean.device) for _ in range(2))
    sigma = torch.where(pure < 0.35, 1.0, 0.1 + 0.9 * sigma)
    level = sigma[..., None, None, None]
    return (1 - level) * clean + level * noise_like(clean, generator), sigma


def flow_errors(predicted: Tensor, clean: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Squared errors (B, L) of clean targets (B, L, C, h, w), and the loss: the less noise, the more they count."""
    error = (predicted - clean).square().mean((2, 3, 4))
    return error, (error / (sigma.square() + 0.25)).mean()


def _after_own(model: DiT, teachers: Teachers, batch: Batch, noise: Tensor) -> Batch:
    """The batch with every target replaced by what the model makes of it in one step from `noise`."""
    showing, pure = shipped(model.config.latent_size), torch.ones(noise.shape[:2], device=noise.device)
    shown = previews(teachers, batch, showing, edge=model.config.camera.edge)
    own = predict(model, batch, showing, shown, noisy=noise, sigma=pure)
    return with_targets(teachers, batch, own)
