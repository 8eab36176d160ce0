"""Give the distilled painter of `rooms` back the variety that squared errors take from it.

What a student learns by squared errors is a mean over what it cannot tell apart: softer than what the teacher paints,
and what is painted next to that is softer still. In distribution matching (DMD2, arXiv 2405.14867) it is led, at each
step of ways of its own, to where the teacher finds a picture likelier than the `fake` does: a network that learns
meanwhile what the student paints.

Legend: n frames, C x h x w one latent.
"""

import copy
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..rooms.dit import DiT
from .dit import optimizers_of
from .latents import Latents
from .loop import Run, fit
from .paint import Learning, Masked, Painting, Pool, Predict, noised, painting_loss, predicted, predicting, unseen_mean
from .paint_distill import going_on, on_the_way
from .sequences import noise_like
from .teachers import Teachers, freeze

_LEAST_OFF = 0.05  # mean error of the student, as the teacher sees it, below which a step to the teacher stays as long


@dataclass(frozen=True, slots=True)
class Matching:
    """How the matching is done; `painting` says what the student is shown."""

    painting: Painting = field(default_factory=lambda: Painting(frames=48, every=4, nothing=0.1, pure=0.0, shift=2.0))
    rate: float = 4e-5
    fake_rate: float = 3e-4
    still: int = 75  # steps in which the fake alone learns
    each: int = 3  # steps of the fake for one of the student (DMD2, section 4.2); with fewer, contrasts run away
    own: float = 0.3  # share of the frames that go on from what the student painted
    kept: int = 2_000  # frames of the student, to go on from


class Distilled(NamedTuple):
    """A student, and the teacher that it was distilled from."""

    student: DiT
    teacher: DiT


class Match(nn.Module):
    """The student and its fake, trained together."""

    def __init__(self, student: DiT, fake: DiT) -> None:
        super().__init__()
        self.student, self.fake = student, fake


def match_painter(
    data: Latents, painters: Distilled, teachers: Teachers, run: Run, matching: Matching, *, seed: int = 0
) -> DiT:
    """Train the student on `data`, beside a fake that begins as the teacher; returns the EMA model.

    Raises ValueError if no walk shows anything new.
    """
    freeze(teachers)
    student, painting = painters.student, matching.painting
    match = Match(student, copy.deepcopy(painters.teacher).train())
    painters.teacher.requires_grad_(False)
    real, fake, learning = (predicting(model, painting) for model in (painters.teacher, match.fake, student))
    wearing = copy.deepcopy(student).eval().requires_grad_(False)
    pool, own = Pool(data, teachers, painting, Learning(student, wearing)), list[Tensor]()

    def loss(_model: nn.Module, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, step))
        generator = torch.Generator(student.unembed.weight.device).manual_seed(seed * 1_000_003 + step)
        shown = going_on(pool.draw(step, rng=rng, generator=generator), own, matching.own, rng=rng)
        at = on_the_way(student, shown, noise_like(shown.base, generator), generator)
        learns = step >= matching.still and step % matching.each == 0
        with torch.set_grad_enabled(learns):
            made = predicted(learning if learns else student, at.noisy, at.sigma, shown)
        own.extend(made.detach()[at.is_last])
        del own[: -matching.kept]
        off = matching_loss(real, fake, made, shown, painting, generator) if learns else made.new_zeros(())
        told = painting_loss(fake, shown._replace(clean=made.detach()), painting, generator)["loss"]
        return {"loss": off + told, "matching": off.detach(), "fake": told.detach()}

    rates = [*optimizers_of(student, matching.rate), *optimizers_of(match.fake, matching.fake_rate)]
    ema = fit(run, match, optimizers=rates, loss=loss)
    assert isinstance(ema, Match)
    return ema.student


def matching_loss(
    real: Predict, fake: Predict, made: Tensor, shown: Masked, painting: Painting, generator: torch.Generator
) -> Tensor:
    """A scalar whose gradient on what the student `made` (n, C, h, w) leads from what `fake` sees to what `real` does.

    Both look at it through noise; how far they differ is held against how far it is off to the teacher (DMD,
    arXiv 2311.18828, Eq. 7 and 8).
    """
    with torch.no_grad():
        noisy, sigma = noised(made, painting, generator)
        wanted, usual = (predicted(predict, noisy, sigma, shown) for predict in (real, fake))
        off = unseen_mean((made - wanted).abs(), shown.shares).clamp(min=_LEAST_OFF)
        goal = made + (wanted - usual) / off[:, None, None, None]
    return 0.5 * unseen_mean((made - goal).square(), shown.shares).mean()
