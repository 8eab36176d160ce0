"""Distill the painter of `rooms`: in the few steps of play, what it paints in many guided ones.

Few steps of flow matching do not get far from the mean of all that could be there, which is grey, and what is painted
next to grey is greyer. The teacher is the painter in more steps, guided away from itself as it was early in its
training (autoguidance, arXiv 2406.02507). At each step of ways of its own (as in DMD2, arXiv 2405.14867, section 4.5)
the student learns where the teacher gets from the same noise.

Legend: n frames, C x h x w one latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..rooms.dit import DiT, Target
from ..rooms.scouting import SHIFT, STEPS, known
from ..sampling import euler, euler_step, flow_sigmas
from .dit import optimizers_of
from .latents import Latents
from .loop import Run, fit
from .paint import Learning, Masked, Painting, Pool, Predict, predicted, predicting
from .sequences import noise_like
from .teachers import Teachers, freeze


@dataclass(frozen=True, slots=True)
class Distilling:
    """How the distilling is done; `painting` says what the teacher is shown."""

    painting: Painting = field(default_factory=lambda: Painting(frames=32, every=1, nothing=0.1))
    frames: int = 48  # of a batch
    rate: float = 5e-4
    steps: int = 14  # of the teacher
    guidance: float = 1.0  # how much farther than from the early painter to the painter it goes
    every: int = 4  # steps from one batch of the teacher to the next
    pairs: int = 6_000  # that are kept, each used several times
    own: float = 0.3  # share of the teacher's frames that go on from what the student painted
    kept: int = 2_000  # frames of the student, to go on from


class Painters(NamedTuple):
    """The student begins as the `teacher`; `early` is what that was early in its training."""

    student: DiT
    teacher: DiT
    early: DiT


class Pair(NamedTuple):
    """What the teacher makes of noise."""

    noise: Tensor  # (C, h, w)
    goal: Masked  # one frame


class Steps(NamedTuple):
    """Frames at steps of play, as many at each."""

    noisy: Tensor  # (n, C, h, w)
    sigma: Tensor  # (n,)
    is_last: Tensor  # (n,) bool: what comes of it is shown


def distill_painter(
    data: Latents, painters: Painters, teachers: Teachers, run: Run, distilling: Distilling, *, seed: int = 0
) -> DiT:
    """Train the student on `data`; returns the EMA model.

    Raises ValueError if no walk shows anything new.
    """
    freeze(teachers)
    student, painting = painters.student, distilling.painting
    early, teacher, predict = (
        predicting(model, painting) for model in (painters.early, painters.teacher, painters.student)
    )
    pool = Pool(data, teachers, painting, Learning(student, painters.early))
    pairs, own = list[Pair](), list[Tensor]()

    def guided(target: Target) -> Tensor:
        made = teacher(target)
        return made + distilling.guidance * (made - early(target))

    def loss(_model: nn.Module, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, step))
        generator = torch.Generator(student.unembed.weight.device).manual_seed(seed * 1_000_003 + step)
        if step % distilling.every == 0 or not pairs:
            shown = going_on(pool.draw(step, rng=rng, generator=generator), own, distilling.own, rng=rng)
            pairs.extend(taught(guided, shown, distilling.steps, generator))
            del pairs[: -distilling.pairs]
        drawn = [pairs[i] for i in rng.integers(len(pairs), size=distilling.frames)]
        goal = Masked(*(torch.stack(part) for part in zip(*(pair.goal for pair in drawn), strict=True)))
        noise = torch.stack([pair.noise for pair in drawn])
        losses, made = distilling_loss(student, predict, goal, noise, generator)
        own.extend(made)
        del own[: -distilling.kept]
        return losses

    ema = fit(run, student, optimizers=optimizers_of(student, distilling.rate), loss=loss)
    assert isinstance(ema, DiT)
    return ema


def going_on(shown: Masked, painted: Sequence[Tensor], share: float, *, rng: np.random.Generator) -> Masked:
    """Let the last of the frames show what was `painted` before, behind the same masks, as soon as there is enough."""
    count = round(share * len(shown.base))
    if count == 0 or len(painted) < count:
        return shown
    before = torch.stack([painted[i] for i in rng.integers(len(painted), size=count)])
    return shown._replace(base=torch.cat([shown.base[:-count], before * known(shown.shares[-count:])]))


@torch.no_grad()
def taught(predict: Predict, shown: Masked, steps: int, generator: torch.Generator) -> list[Pair]:
    """What `predict` makes of noise in `steps`, frame by frame."""
    noise = noise_like(shown.base, generator)
    goal = euler(
        noise,
        lambda x, sigma: predicted(predict, x, sigma, shown),
        flow_sigmas(steps, shift=SHIFT),
    )
    return [Pair(x, Masked(*row)) for x, *row in zip(noise, shown.base, shown.shares, goal, strict=True)]


def distilling_loss(
    student: DiT, predict: Predict, goal: Masked, noise: Tensor, generator: torch.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Squared error of all STEPS steps from `noise` (n, C, h, w), and what the last of them made (n', C, h, w)."""
    at = on_the_way(student, goal, noise, generator)
    made = predicted(predict, at.noisy, at.sigma, goal)
    error = (made - goal.clean).square().mean((1, 2, 3))
    return {"loss": error.mean(), "last": error.detach()[at.is_last].mean()}, made.detach()[at.is_last]


@torch.no_grad()
def on_the_way(student: DiT, shown: Masked, noise: Tensor, generator: torch.Generator) -> Steps:
    """Frames on the student's ways from `noise` (n, C, h, w): before the first step, the second and so on."""
    noisy, sigmas = noise.clone(), flow_sigmas(STEPS, shift=SHIFT)
    steps = torch.randperm(len(noisy), generator=generator, device=noisy.device) % STEPS
    for step in range(STEPS - 1):
        going = (steps > step).nonzero().flatten()
        sigma, after = (noisy.new_full((len(going),), sigmas[step + i]) for i in (0, 1))
        clean = predicted(student, noisy[going], sigma, Masked(*(x[going] for x in shown)))
        noisy[going] = euler_step(noisy[going], clean, sigma, after)
    return Steps(noisy, noisy.new_tensor(sigmas)[steps], steps == STEPS - 1)
