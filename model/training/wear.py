"""What a painter goes on from at play is worn: painted itself, blurred and noisy. Its training wears what it is shown.

A painter that only ever goes on from recorded frames takes its own wavy edges for the shape of the room, and the next
one is wavier: after some hundred frames rooms are caves. So what is known is taken back to noise part of the way and
painted again, by a painter that is not shown what was there (SDEdit, arXiv 2108.01073), while the target stays the
recorded frame. Learning from one's own errors is what Stable Video Infinity does (arXiv 2510.09212).

Legend: B sequences, n frames, C x h x w one latent.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..rooms.dit import DiT, Target
from ..rooms.scouting import SHIFT, STEPS, known
from ..sampling import euler_step, flow_sigmas
from .sequences import Batch, noise_like
from .teachers import Teachers, for_teachers


@dataclass(frozen=True, slots=True)
class Wear:
    sequences: float = 0.6  # share of walks whose frames are painted again before previews are put together from them
    frames: float = 0.45  # share of recorded frames behind masks that are painted again
    back: tuple[float, ...] = (0.15, 0.4, 0.45)  # chances of being taken back to the second step of play, the third …
    blur: float = 0.6  # up to this much of what is known is blurred, in 40 % of frames: scouts follow scouts
    noise: float = 0.15  # up to this standard deviation on what is known, in half of the frames


@torch.no_grad()
def repainted(painter: DiT, frames: Tensor, first: Tensor, generator: torch.Generator) -> Tensor:
    """Frames (n, C, h, w), some, taken back to before step `first` (n,) of play, from 1 on, and painted again."""
    sigmas = flow_sigmas(STEPS, shift=SHIFT)
    made = torch.lerp(frames, noise_like(frames, generator), frames.new_tensor(sigmas)[first][:, None, None, None])
    for step in range(int(first.min()), STEPS):
        going = (first <= step).nonzero().flatten()
        noisy, nothing = made[going], torch.zeros_like(made[going])
        sigma, after = (frames.new_full((len(going),), sigmas[step + i]) for i in (0, 1))
        target = Target(noisy, sigma, frames.new_zeros(len(going), 3), nothing, nothing, nothing[:, :2])
        with torch.autocast(frames.device.type, torch.bfloat16):
            clean = painter(target)
        made[going] = euler_step(noisy, clean.float(), sigma, after)
    return made


def steps_back(wear: Wear, num: int, rng: np.random.Generator) -> Tensor:
    """What steps (num,) of play frames are taken back to."""
    return torch.from_numpy(1 + rng.choice(len(wear.back), size=num, p=wear.back))


def with_repainted(
    painter: DiT, teachers: Teachers, batch: Batch, wear: Wear, *, rng: np.random.Generator, generator: torch.Generator
) -> Batch:
    """The batch, of some of whose sequences all frames are painted again, targets too, and their depth read anew."""
    chosen = torch.from_numpy((rng.random(len(batch.clip)) < wear.sequences).nonzero()[0]).to(batch.clip.device)
    if not len(chosen):
        return batch
    frames = torch.cat([batch.clip, batch.memory], 1)[chosen]
    first = steps_back(wear, len(chosen), rng).to(frames.device).repeat_interleave(frames.shape[1])
    made = repainted(painter, frames.flatten(0, 1), first, generator).view_as(frames)
    with torch.no_grad():
        read = teachers.depth(for_teachers(made)).unflatten(0, made.shape[:2])
    length = batch.clip.shape[1]
    parts = {"clip": made[:, :length], "memory": made[:, length:]}
    parts |= {"depths": read[:, :length], "memory_depths": read[:, length:]}
    return batch._replace(**{name: getattr(batch, name).index_copy(0, chosen, part) for name, part in parts.items()})


def worn(base: Tensor, shares: Tensor, wear: Wear, generator: torch.Generator) -> Tensor:
    """The base (n, C, h, w), for some frames as blurred and noisy as what was painted before is."""

    def some(share: float, most: float) -> Tensor:
        level, chosen = (torch.rand(len(base), 1, 1, 1, generator=generator, device=generator.device) for _ in "ab")
        return level * most * (chosen < share)

    inside = known(shares)
    blurred = F.avg_pool2d(base, 3, 1, 1) / F.avg_pool2d(inside, 3, 1, 1).clamp(min=0.1) * inside
    base = torch.lerp(base, blurred, some(0.4, wear.blur))
    return base + inside * some(0.5, wear.noise) * noise_like(base, generator)
