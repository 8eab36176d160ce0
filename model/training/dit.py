"""Train the diffusion transformer of `rooms`: many targets per sequence, on latents of recorded episodes.

Legend: B sequences, L targets of each, R recalled frames, K source views of a target, C x h x w one latent.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..rooms.camera import relative
from ..rooms.depth import Depth
from ..rooms.dit import KERNELS, KV, DiT, Phases, Target
from ..rooms.vae import VAE
from ..rooms.views import SOURCES_AGO, Preview, Sources, preview
from .latents import Latents
from .loop import Run, fit
from .sequences import RECALLED, RECENT, Batch, Drawing, corrupt, draw, noise_like

TEACHING = torch.bfloat16  # of the networks that are not trained


@dataclass(frozen=True, slots=True)
class DiTTraining:
    drawing: Drawing = field(default_factory=Drawing)
    rate: float = 2e-3
    context_noise: float = 0.3  # up to this standard deviation, for half of the sequences
    rollout_from: int = 1000  # step after which targets may follow the model's own frames
    rollouts: tuple[float, ...] = (0.4, 0.35, 0.25)  # chances of 0, 1, 2 … own frames in a row before each target
    own_depth: float = 0.5  # share of sequences whose depth the model reads from the pictures itself


class Teachers(NamedTuple):
    """Networks that training the transformer leaves as they are."""

    vae: VAE
    depth: Depth


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


def freeze(teachers: Teachers) -> None:
    for network in teachers:
        network.eval().requires_grad_(False)
        network.to(dtype=TEACHING, memory_format=torch.channels_last)  # type: ignore[call-overload]


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
    for _ in range(own):
        with torch.no_grad():
            context = _after_own(model, teachers, context, noise_like(clean, generator))
    sigma, pure = (torch.rand(clean.shape[:2], generator=generator, device=clean.device) for _ in range(2))
    sigma = torch.where(pure < 0.35, 1.0, 0.1 + 0.9 * sigma)
    level = sigma[..., None, None, None]
    with torch.no_grad():
        shown = previews(teachers, context, model.config.camera.edge)
    predicted = predict(model, context, shown, (1 - level) * clean + level * noise_like(clean, generator), sigma)
    error = (predicted - clean).square().mean((2, 3, 4))
    loss = (error / (sigma.square() + 0.25)).mean()
    first = error[sigma == 1].mean().detach() if bool((sigma == 1).any()) else error.mean().detach()
    base = (shown.base.unflatten(0, clean.shape[:2]) - clean).square().mean()
    return {"loss": loss, f"own_{own}": first, f"base_{own}": base}


def _after_own(model: DiT, teachers: Teachers, batch: Batch, noise: Tensor) -> Batch:
    """The batch with every target replaced by what the model makes of it in one step from `noise`."""
    shown = previews(teachers, batch, model.config.camera.edge)
    own = predict(model, batch, shown, noise, torch.ones(noise.shape[:2], device=noise.device))
    return with_targets(teachers, batch, own)


@torch.no_grad()
def with_targets(teachers: Teachers, batch: Batch, frames: Tensor) -> Batch:
    """The batch with `frames` (B, L, C, h, w) as its targets, and the depth that is read from them."""
    depths = teachers.depth(_for_teachers(frames)).unflatten(0, frames.shape[:2])
    return batch._replace(
        clip=torch.cat([batch.clip[:, :RECENT], frames], 1), depths=torch.cat([batch.depths[:, :RECENT], depths], 1)
    )


def with_own_depth(teachers: Teachers, batch: Batch, share: float, generator: torch.Generator) -> Batch:
    """For some sequences, the depth that the model reads from each picture alone instead of the recorded one."""
    draws = torch.rand(len(batch.clip), generator=generator, device=batch.clip.device)
    chosen = (draws < share).nonzero().flatten()
    clip, memory = batch.depths.clone(), batch.memory_depths.clone()
    latents = torch.cat([batch.clip, batch.memory], 1)[chosen]
    if len(chosen):
        with torch.no_grad():
            own = teachers.depth(_for_teachers(latents)).unflatten(0, latents.shape[:2])
        clip[chosen], memory[chosen] = own[:, : clip.shape[1]], own[:, clip.shape[1] :]
    return batch._replace(depths=clip, memory_depths=memory)


def previews(teachers: Teachers, batch: Batch, edge: float) -> Preview:
    """What earlier frames show of all targets, B*L of them."""
    b, total = batch.frames.shape
    length, k = total - RECENT, len(SOURCES_AGO) + RECALLED
    first = RECENT - SOURCES_AGO[-1]
    latents = torch.cat([batch.clip[:, first:], batch.memory[:, 1:]], 1)
    images = teachers.vae.decode(_for_teachers(latents)).float().clamp(-1, 1).unflatten(0, latents.shape[:2])
    depths = torch.cat([batch.depths[:, first:], batch.memory_depths[:, 1:]], 1)
    poses = torch.cat([batch.poses[:, first:], batch.memory_poses[:, 1:]], 1)
    valid = torch.cat([batch.frames[:, first:] >= 0, batch.memory_valid[:, 1:]], 1)
    targets = torch.arange(length, device=latents.device)
    recent = torch.stack([targets + RECENT - ago - first for ago in SOURCES_AGO], 1)
    memory = (total - first + torch.arange(RECALLED, device=latents.device)).expand(length, -1)
    index = torch.cat([recent, memory], 1)  # (L, K)
    sources = Sources(
        relative(poses[:, index], batch.poses[:, RECENT:, None]).flatten(0, 1),
        images[:, index].flatten(0, 1),
        depths[:, index].flatten(0, 1),
        valid[:, index].flatten(0, 1),
    )
    assert sources.poses.shape == (b * length, k, 3)
    shown = preview(teachers.vae, sources, edge=edge)
    return shown._replace(base=shown.base.float(), recalled=shown.recalled.float())


def _for_teachers(latents: Tensor) -> Tensor:
    """Latents (B, L, C, h, w) as one batch that the teachers take."""
    return latents.flatten(0, 1).to(TEACHING, memory_format=torch.channels_last)


def predict(model: DiT, batch: Batch, shown: Preview, noisy: Tensor, sigma: Tensor) -> Tensor:
    """Clean targets (B, L, C, h, w) from `noisy` ones at `sigma` (B, L), each after the frames before it."""
    controls = batch.controls[:, RECENT:].flatten(0, 1)
    with torch.autocast(noisy.device.type, torch.bfloat16):
        context, bias = packed_context(model, batch, batch.poses[:, RECENT:])
        target = Target(noisy.flatten(0, 1), sigma.flatten(), controls, shown.base, shown.recalled, shown.shares)
        out = model(target, context, bias)
    clean: Tensor = out.float().unflatten(0, sigma.shape)
    return clean


class Part(NamedTuple):
    """Context tokens of one kind for every target."""

    features: KV  # (depth, B, L, n, D)
    phases: Phases  # (B, L, n, P)
    valid: Tensor  # (B, L, n)


def packed_context(model: DiT, batch: Batch, reference: Tensor) -> tuple[KV, Tensor]:
    """The schedule f1k1 f4s2f1s1 f16k4f2k2f1k1 for every target: context (depth, B*L, m, H, d) and its bias.

    `reference` (B, L, 3) are the poses of the targets.
    """
    parts = [
        memory_part(model, batch, reference, kind="start", slots=slice(0, 1)),
        memory_part(model, batch, reference, kind="s2", slots=slice(1, RECALLED)),
        memory_part(model, batch, reference, kind="s1", slots=slice(RECALLED, RECALLED + 1)),
        recent_part(model, batch, reference, kind="k4", starts=(0, 4, 8, 12)),
        recent_part(model, batch, reference, kind="k2", starts=(16,)),
        recent_part(model, batch, reference, kind="k1", starts=(18,)),
    ]
    features = KV(*(torch.cat(x, 3).flatten(1, 2) for x in zip(*(part.features for part in parts), strict=True)))
    phases = Phases(*(torch.cat(x, 2).flatten(0, 1) for x in zip(*(part.phases for part in parts), strict=True)))
    tokens = len(model.pixels("k1").cos)
    own = torch.ones(*reference.shape[:2], tokens, dtype=torch.bool, device=reference.device)
    valid = torch.cat([*(part.valid for part in parts), own], 2).flatten(0, 1)
    bias = torch.zeros(valid.shape, device=valid.device).masked_fill(~valid, -torch.inf)[:, None, None]
    return model.rotate_context(features, phases), bias.to(features.keys.dtype)


def memory_part(model: DiT, batch: Batch, reference: Tensor, *, kind: str, slots: slice) -> Part:
    """Start and recalled latents: the same for all targets of a sequence, seen from each one's pose."""
    b, length = reference.shape[:2]
    tokens = model.context_tokens(kind, batch.memory[:, slots].flatten(0, 1)[:, None])
    kv = model.context_kv(tokens, model.pixels(kind))
    features = KV(*(x.unflatten(1, (b, 1, -1)).flatten(3, 4).expand(-1, -1, length, -1, -1) for x in kv))
    poses = relative(batch.memory_poses[:, None, slots], reference[:, :, None])
    age = (batch.frames[:, RECENT:, None] - batch.memory_frames[:, None, slots]).abs().float()
    phases = model.group_phases(kind, poses[..., None, :], age[..., None])
    valid = batch.memory_valid[:, None, slots].repeat_interleave(tokens.shape[1], 2).expand(-1, length, -1)
    return Part(features, Phases(*(x.flatten(2, 3) for x in phases)), valid)


def recent_part(model: DiT, batch: Batch, reference: Tensor, *, kind: str, starts: tuple[int, ...]) -> Part:
    """Windows of the clip: for target i those that begin at `starts` + i. Each is encoded once, for all targets."""
    b, length = reference.shape[:2]
    size, first = KERNELS[kind][0], starts[0]
    windows = batch.clip[:, first : starts[-1] + size + length - 1].unfold(1, size, 1).movedim(-1, 2)
    tokens = model.context_tokens(kind, windows.flatten(0, 1))
    kv = model.context_kv(tokens, model.pixels(kind))
    by_target = (
        torch.cat([x.unflatten(1, (b, -1))[:, :, s - first : s - first + length] for s in starts], 3) for x in kv
    )
    indices = torch.arange(length)[:, None, None] + torch.tensor(starts)[:, None] + torch.arange(size)
    poses = relative(batch.poses[:, indices], reference[:, :, None, None])
    age = (batch.frames[:, RECENT:, None, None] - batch.frames[:, indices]).float()
    phases = model.group_phases(kind, poses, age)
    valid = (batch.frames[:, indices[..., 0]] >= 0).repeat_interleave(tokens.shape[1], 2)
    return Part(KV(*by_target), Phases(*(x.flatten(2, 3) for x in phases)), valid)
