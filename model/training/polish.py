"""Polish the transformer of `rooms`: sharp pictures in one step, also after many frames of its own.

Flow matching alone shows the mean of what could be there, and a session that goes on from blurred frames
fades away. Here a critic compares generated latents with recorded ones, and sequences stay in a pool for
many rounds: in each round every frame is made again after the frames that the model made in the round
before, so that after k rounds it follows k frames of its own, at the cost of one. As they go, sequences move on along
their episodes, so that nothing recorded is left in their history but what is recalled.

Legend: B sequences, L targets of each, C x h x w one latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..rooms.depth import ConvBlock
from ..rooms.dit import DiT
from .context import predict, previews, shipped
from .dit import optimizers_of
from .latents import Latents
from .loop import Run, fit
from .sequences import RECENT, Batch, Drawing, corrupt, draw, episode_of, noise_like
from .teachers import Teachers, freeze, with_own_depth, with_targets

ALONG = ("clip", "depths", "controls", "poses", "frames")  # what a batch has of every frame


@dataclass(frozen=True, slots=True)
class Polishing:
    """How the polishing is done; a batch has `drawing.batch` new sequences and as many from the pool."""

    drawing: Drawing = field(default_factory=lambda: Drawing(batch=2, recall_dropout=0.4, strides=(1, 1, 2, 4, 8)))
    rate: float = 5e-4
    critic_rate: float = 1e-3
    context_noise: float = 0.3
    own_depth: float = 0.5
    pool: int = 8  # sequences
    stride: int = 8  # rounds after which a sequence moves on by as many frames
    truth: float = 0.5  # squared error beyond which a recorded latent counts little: it could not be known
    fooling: float = 2.0  # the critic's gradient on the output layer, as a share of the squared error's
    smoothness: float = 25.0  # of the critic: weight of its squared change under noise
    jitter: float = 0.1  # that noise's standard deviation


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


class Sequences(NamedTuple):
    """A batch, what its targets really look like, and the noise that they are made from in every round."""

    batch: Batch
    clean: Tensor  # (B, L, C, h, w)
    noise: Tensor  # (B, L, C, h, w)
    rounds: Tensor  # (B,) made so far


class Pool:
    """Sequences in the course of being generated; each leaves at its episode's end, and a new one takes its place."""

    def __init__(self, data: Latents, *, size: int, stride: int) -> None:
        self._data, self._size, self._stride = data, size, stride
        self._waiting: list[Sequences] = []

    def take(self, count: int, rng: np.random.Generator) -> list[Sequences]:
        """Up to `count` sequences, one of each."""
        if len(self._waiting) < self._size:
            return []
        return [self._waiting.pop(int(rng.integers(len(self._waiting)))) for _ in range(count)]

    def put(self, sequences: Sequences, rng: np.random.Generator) -> None:
        """Keep those that are not at their end, the ones that came farthest first, while there is room.

        A new sequence enters with a chance of a half only, so that their ages spread.
        """
        for i in sequences.rounds.argsort(descending=True).tolist():
            one, rounds = select(sequences, i), int(sequences.rounds[i])
            is_at_end = False
            if rounds % self._stride == 0:
                one, is_at_end = self._moved_on(one, rng)
            if not is_at_end and len(self._waiting) < self._size and (rounds > 1 or rng.random() < 0.5):
                self._waiting.append(one)

    def _moved_on(self, one: Sequences, rng: np.random.Generator) -> tuple[Sequences, bool]:
        """The sequence `stride` frames further, the new ones recorded; and whether its episode ends before."""
        stride, batch, device = self._stride, one.batch, one.clean.device
        index = batch.frames[0, -stride:].cpu().numpy() + stride
        episode = episode_of(self._data, int(batch.episodes), int(batch.strides))
        if index[-1] >= len(episode.poses):
            return one, True
        clip, depths, controls, poses = (
            torch.from_numpy(np.asarray(part[index], np.float32)).to(device)[None] for part in episode
        )
        noise = torch.from_numpy(rng.standard_normal(clip.shape, np.float32)).to(device)
        new = (clip, depths, controls, poses, batch.frames[:, -stride:] + stride)
        along = {k: torch.cat([getattr(batch, k)[:, stride:], x], 1) for k, x in zip(ALONG, new, strict=True)}
        clean, noise = (torch.cat([a[:, stride:], b], 1) for a, b in ((one.clean, clip), (one.noise, noise)))
        return Sequences(batch._replace(**along), clean, noise, one.rounds), False


def select(sequences: Sequences, index: int) -> Sequences:
    one = slice(index, index + 1)
    return Sequences(Batch(*(x[one] for x in sequences.batch)), *(x[one] for x in sequences[1:]))


def joined(parts: Sequence[Sequences]) -> Sequences:
    batches = zip(*(part.batch for part in parts), strict=True)
    rest = zip(*(part[1:] for part in parts), strict=True)
    return Sequences(Batch(*(torch.cat(x) for x in batches)), *(torch.cat(x) for x in rest))


def polish(data: Latents, model: DiT, teachers: Teachers, run: Run, training: Polishing, *, seed: int = 0) -> DiT:
    """Train `model` on `data` against a critic; returns the EMA model."""
    freeze(teachers)
    device = model.unembed.weight.device
    contest = Contest(model, Critic(model.config.latent_channels).to(device))
    pool = Pool(data, size=training.pool, stride=training.stride)

    def loss(_model: nn.Module, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, step))
        generator = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        batch = Batch(*(x.to(device) for x in draw(data, training.drawing, rng)))
        new = start(teachers, batch, training, generator)
        sequences = joined([new, *pool.take(len(new.clean), rng)])
        losses, made = polishing_loss(contest, teachers, sequences, training, generator=generator)
        batch = with_targets(teachers, sequences.batch, made)
        pool.put(sequences._replace(batch=batch, rounds=sequences.rounds + 1), rng)
        return losses

    rates = [*optimizers_of(model, training.rate)]
    rates.append(torch.optim.AdamW(contest.critic.parameters(), lr=training.critic_rate, betas=(0.0, 0.99)))
    ema = fit(run, contest, optimizers=rates, loss=loss)
    assert isinstance(ema, Contest)
    return ema.dit


def start(teachers: Teachers, batch: Batch, training: Polishing, generator: torch.Generator) -> Sequences:
    """New sequences: targets follow recorded frames, some of them noisy or with the depth that is read from them."""
    clean = batch.clip[:, RECENT:]
    batch = batch._replace(clip=corrupt(batch.clip, training.context_noise, generator))
    batch = with_own_depth(teachers, batch, training.own_depth, generator)
    rounds = torch.zeros(len(clean), dtype=torch.long, device=clean.device)
    return Sequences(batch, clean, noise_like(clean, generator), rounds)


def polishing_loss(
    contest: Contest, teachers: Teachers, sequences: Sequences, training: Polishing, *, generator: torch.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Losses of both sides, and the targets (B, L, C, h, w) as the model makes them in one step.

    The relativistic pairing is that of R3GAN (arXiv 2501.05441, Eq. 2); the critic is kept smooth by finite
    differences as in Seaweed-APT (arXiv 2501.08316, section 3.4).
    """
    dit, critic, clean = contest.dit, contest.critic, sequences.clean
    showing, pure = shipped(dit.config.latent_size), torch.ones_like(clean[:, :, 0, 0, 0])
    with torch.no_grad():
        shown = previews(teachers, sequences.batch, showing, edge=dit.config.camera.edge)
    made = predict(dit, sequences.batch, showing, shown, noisy=sequences.noise, sigma=pure)
    error = (made - clean).square().mean(2)
    known = (-error.detach() / training.truth).exp()
    truth = (error * known).mean()
    critic.requires_grad_(False)
    fooling = F.softplus(_judged(critic, clean) - _judged(critic, made)).mean()
    critic.requires_grad_(True)
    weight = training.fooling * _pull(truth, dit) / _pull(fooling, dit).clamp(min=1e-8)
    telling, smoothness = critic_loss(critic, clean, made.detach(), training.jitter, generator=generator)
    old = sequences.rounds > 0
    sharpness = fine_energy(made.detach()) / fine_energy(clean)
    report = {
        "truth": truth.detach(),
        "fooling": fooling.detach(),
        "telling": telling.detach(),
        "error_new": error.detach()[~old].mean(),
        "sharpness_new": sharpness[~old].mean(),
        "error_own": error.detach()[old].mean() if old.any() else truth.detach(),
        "sharpness_own": sharpness[old].mean() if old.any() else sharpness.mean(),
        "rounds": sequences.rounds.float().mean(),
    }
    return {"loss": truth + weight * fooling + telling + training.smoothness * smoothness, **report}, made.detach()


def critic_loss(
    critic: Critic, clean: Tensor, made: Tensor, jitter: float, *, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """How badly the critic tells pairs apart, and how much it changes under noise."""
    real, false = _judged(critic, clean), _judged(critic, made)
    moved = (
        (_judged(critic, x + jitter * noise_like(x, generator)) - judged).square().mean()
        for x, judged in ((clean, real), (made, false))
    )
    return F.softplus(false - real).mean(), sum(moved, start=torch.zeros((), device=clean.device))


def _judged(critic: Critic, latents: Tensor) -> Tensor:
    with torch.autocast(latents.device.type, torch.bfloat16):
        judged: Tensor = critic(latents.flatten(0, 1))
    return judged


def _pull(loss: Tensor, dit: DiT) -> Tensor:
    """The norm of the loss's gradient on the output layer (VQGAN's adaptive weight, arXiv 2012.09841, Eq. 7)."""
    norm: Tensor = torch.autograd.grad(loss, dit.unembed.weight, retain_graph=True)[0].norm()
    return norm


def fine_energy(latents: Tensor) -> Tensor:
    """Energy (B, L) of what differs from the neighbourhood."""
    flat = latents.flatten(0, 1)
    fine = flat - F.avg_pool2d(flat, 3, 1, 1)
    energy: Tensor = fine.square().mean((1, 2, 3)).unflatten(0, latents.shape[:2])
    return energy
