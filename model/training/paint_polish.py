"""Polish the painter of `rooms`: whole places in the few steps of play.

Flow matching taught it the mean of what could be there, and few steps from noise do not get far from that: to grey, and
the greyer, the more of what is known was painted itself. Here a critic compares what the painter takes frames to be, at
each step of its own ways (as in DMD2, arXiv 2405.14867, section 4.5), with recorded ones; some of the frames go on
from what it painted before.

Legend: n frames, C x h x w one latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..rooms.dit import DiT, Target
from ..rooms.scouting import SHIFT, STEPS, known
from ..sampling import euler_step, flow_sigmas
from .critic import Contest, Critic, critic_loss, judged, pull
from .dit import optimizers_of
from .latents import Latents
from .loop import Run, fit
from .paint import Masked, Painting, Pool, Predict, behind_masks, painting_loss, predicting, worn
from .sequences import noise_like
from .teachers import Teachers, freeze


@dataclass(frozen=True, slots=True)
class PaintPolishing:
    """How the polishing is done; `painting` says of what frames."""

    painting: Painting = field(default_factory=lambda: Painting(frames=96, rate=1.5e-4, every=4, nothing=0.1))
    critic_rate: float = 1e-3
    own: float = 0.3  # share of frames of which what is known was painted
    kept: int = 2_000  # painted frames, to go on from
    matching: float = 0.5  # weight of flow matching beside it, on a quarter of the frames
    truth: float = 0.5  # squared error beyond which what is known counts little: the record shows something else
    fooling: float = 2.0  # and the next two: see `Polishing`
    smoothness: float = 100.0
    jitter: float = 0.1


class Ways(NamedTuple):
    """Frames on their way from noise, and what is true of them as far as it is known."""

    goal: Tensor  # (n, C, h, w)
    noisy: Tensor  # (n, C, h, w) at `sigma`
    sigma: Tensor  # (n,)
    is_last: Tensor  # (n,) bool: one step more makes the frame


def polish_painter(
    data: Latents, model: DiT, teachers: Teachers, run: Run, training: PaintPolishing, *, seed: int = 0
) -> DiT:
    """Train `model` on `data` against a critic; returns the EMA model.

    Raises ValueError if no walk shows anything new.
    """
    freeze(teachers)
    device = model.unembed.weight.device
    contest = Contest(model, Critic(model.config.latent_channels).to(device))
    painting, predict, painted = training.painting, predicting(model, training.painting), list[Tensor]()
    pool = Pool(data, teachers, painting, edge=model.config.camera.edge)

    def loss(_model: nn.Module, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, step))
        generator = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        pool.refresh(step, rng=rng, generator=generator)
        shown = behind_masks(data, pool.previews, painting, rng=rng)
        shown = shown._replace(base=worn(shown, painting, generator))
        shown, goal = going_on(shown, painted, training.own, rng=rng)
        ways = on_the_way(model, shown, goal, generator)
        losses, made = contest_loss(contest, predict, shown, ways, training, generator=generator)
        painted.extend(made[ways.is_last])
        del painted[: -training.kept]
        return losses

    rates = [*optimizers_of(model, painting.rate)]
    rates.append(torch.optim.AdamW(contest.critic.parameters(), lr=training.critic_rate, betas=(0.0, 0.99)))
    ema = fit(run, contest, optimizers=rates, loss=loss)
    assert isinstance(ema, Contest)
    return ema.dit


def going_on(
    shown: Masked, painted: Sequence[Tensor], share: float, *, rng: np.random.Generator
) -> tuple[Masked, Tensor]:
    """Let the last of the frames show what was `painted` before, behind the same masks, as soon as there is enough.

    Returns what is shown then, and all frames (n, C, h, w) as they should be where they are known.
    """
    count = round(share * len(shown.base))
    if count == 0 or len(painted) < count:
        return shown, shown.clean
    before = torch.stack([painted[i] for i in rng.integers(len(painted), size=count)])
    base = torch.cat([shown.base[:-count], before * known(shown.shares[-count:])])
    return shown._replace(base=base), torch.cat([shown.clean[:-count], before])


@torch.no_grad()
def on_the_way(model: DiT, shown: Masked, goal: Tensor, generator: torch.Generator) -> Ways:
    """Frames as they are before the first step, the second and so on, as many of each."""
    noisy, sigmas = noise_like(shown.clean, generator), flow_sigmas(STEPS, shift=SHIFT)
    steps = torch.randperm(len(noisy), generator=generator, device=noisy.device) % STEPS
    for step in range(STEPS - 1):
        going = (steps > step).nonzero().flatten()
        sigma, after = (noisy.new_full((len(going),), sigmas[step + i]) for i in (0, 1))
        part = Masked(*(x[going] for x in shown))
        clean = predicted(model, part, noisy[going], sigma)
        noisy[going] = euler_step(noisy[going], clean, sigma, after)
    return Ways(goal, noisy, noisy.new_tensor(sigmas)[steps], steps == STEPS - 1)


def predicted(predict: Predict, shown: Masked, noisy: Tensor, sigma: Tensor) -> Tensor:
    """What noisy frames (n, C, h, w) at `sigma` (n,) are taken to be."""
    controls = noisy.new_zeros(len(noisy), 3)
    with torch.autocast(noisy.device.type, torch.bfloat16):
        return predict(Target(noisy, sigma, controls, shown.base, shown.base, shown.shares)).float()


def contest_loss(
    contest: Contest,
    predict: Predict,
    shown: Masked,
    ways: Ways,
    training: PaintPolishing,
    *,
    generator: torch.Generator,
) -> tuple[dict[str, Tensor], Tensor]:
    """Losses of both sides, and what the frames (n, C, h, w) are taken to be; see `polishing_loss`.

    Any recorded frame is a pair for any that is made: what is known is held by the squared error alone.
    """
    dit, critic = contest.dit, contest.critic
    quarter = Masked(*(x[: max(1, len(x) // 4)] for x in shown))
    matching = painting_loss(predict, quarter, training.painting, generator)["loss"]
    made = predicted(predict, shown, ways.noisy, ways.sigma)
    inside = known(shown.shares)[:, 0]
    error = (made - ways.goal).square().mean(1)
    truth = (error * inside * (-error.detach() / training.truth).exp()).sum() / inside.sum().clamp(min=1)
    real = shown.clean[torch.randperm(len(made), generator=generator, device=made.device)]
    critic.requires_grad_(False)
    fooling = F.softplus(judged(critic, real) - judged(critic, made)).mean()
    critic.requires_grad_(True)
    held = truth + training.matching * matching
    weight = training.fooling * pull(held, dit) / pull(fooling, dit).clamp(min=1e-8)
    telling, smoothness = critic_loss(critic, real, made.detach(), training.jitter, generator=generator)
    report = {
        "truth": truth.detach(),
        "matching": matching.detach(),
        "fooling": fooling.detach(),
        "telling": telling.detach(),
        "energy": made.detach()[ways.is_last].square().mean() / real.square().mean(),
    }
    return {"loss": held + weight * fooling + telling + training.smoothness * smoothness, **report}, made.detach()
