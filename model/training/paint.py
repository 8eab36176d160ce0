"""Train the painter of `rooms`: flow matching of what nobody has seen, in single frames behind the masks of play.

Half of a batch are previews of recorded walks at up to eight times their speed, as a scout meets them; the other half
any recorded frames behind the same masks, which cost nothing to make. No context: what is known is in the frame,
and worn as at play.

Legend: n frames, C x h x w one latent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..rooms.dit import DiT, Target
from ..rooms.scouting import blanked, known, news
from .context import previews, shipped
from .dit import optimizers_of
from .latents import Latents
from .loop import Run, fit
from .sequences import RECENT, Batch, Drawing, draw, noise_like
from .teachers import Teachers, freeze, with_own_depth
from .wear import Wear, repainted, steps_back, with_repainted, worn

Predict = Callable[[Target], Tensor]
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Painting:
    drawing: Drawing = field(default_factory=lambda: Drawing(targets=8, recall_dropout=0.6, strides=(4, 8, 8)))
    frames: int = 192  # of a batch
    rate: float = 1.5e-3
    own_depth: float = 0.7  # share of sequences whose depth the model reads from the pictures itself
    every: int = 2  # steps from one batch of new previews to the next
    pool: int = 6_000  # previews that are kept, each used several times, from other noise
    unknown: tuple[float, float] = (0.04, 0.9)  # share of a preview that nothing shows
    wear: Wear = Wear()
    pure: float = 0.15  # share of frames at pure noise
    shift: float = 1.0  # of all other noise levels towards noise
    nothing: float = 0.06  # share of frames of which nothing is known: see `scouting.flat`
    is_compiled: bool = False  # steps take 0.6 of the time, and need a C++ compiler


class Learning(NamedTuple):
    """A painter, and who paints again some of what it is shown, if anybody does (see `wear`)."""

    painter: DiT
    wearing: DiT | None = None


class Masked(NamedTuple):
    """Frames, and what is known of them."""

    base: Tensor  # (n, C, h, w), 0 where nothing is known
    shares: Tensor  # (n, 2, h, w): see `views.Preview`
    clean: Tensor  # (n, C, h, w)


class Pool:
    """Previews with something unknown, each used several times, from other noise."""

    def __init__(self, data: Latents, teachers: Teachers, painting: Painting, learning: Learning) -> None:
        self._data, self._teachers, self._painting, self._learning = data, teachers, painting, learning
        self.previews: list[Masked] = []

    def draw(self, step: int, *, rng: np.random.Generator, generator: torch.Generator) -> Masked:
        """A batch, its base as worn as what was painted before is; new previews are added first if it is time.

        Raises ValueError if no walk shows anything new.
        """
        is_due = step % self._painting.every == 0
        for _ in range(_ATTEMPTS):
            if self.previews and not is_due:
                break
            self.previews += new_previews(
                self._data, self._teachers, self._painting, self._learning, rng=rng, generator=generator
            )
            is_due = False
        if not self.previews:
            raise ValueError(f"expected walks that show something new, got none in {_ATTEMPTS} batches")
        del self.previews[: -self._painting.pool]
        shown = behind_masks(self._data, self.previews, self._painting, rng=rng)
        if self._learning.wearing is not None:
            shown = self._repainted(self._learning.wearing, shown, rng=rng, generator=generator)
        return shown._replace(base=worn(shown.base, shown.shares, self._painting.wear, generator))

    def _repainted(
        self, painter: DiT, shown: Masked, *, rng: np.random.Generator, generator: torch.Generator
    ) -> Masked:
        """With some of the recorded frames, which are the last, painted again."""
        wear = self._painting.wear
        last = slice(len(shown.base) - max(1, round(wear.frames * (len(shown.base) // 2))), None)
        first = steps_back(wear, len(shown.base[last]), rng).to(shown.base.device)
        made = repainted(painter, shown.clean[last], first, generator) * known(shown.shares[last])
        return shown._replace(base=torch.cat([shown.base[: last.start], made]))


def train_painter(
    data: Latents, learning: Learning, teachers: Teachers, run: Run, painting: Painting, *, seed: int = 0
) -> DiT:
    """Train the painter on `data`; returns the EMA model.

    Raises ValueError if no walk shows anything new.
    """
    freeze(teachers)
    model = learning.painter
    predict, pool = predicting(model, painting), Pool(data, teachers, painting, learning)

    def loss(_model: nn.Module, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, step))
        generator = torch.Generator(model.unembed.weight.device).manual_seed(seed * 1_000_003 + step)
        return painting_loss(predict, pool.draw(step, rng=rng, generator=generator), painting, generator)

    ema = fit(run, model, optimizers=optimizers_of(model, painting.rate), loss=loss)
    assert isinstance(ema, DiT)
    return ema


def predicting(model: DiT, painting: Painting) -> Predict:
    """The model's forward, compiled if the painting is."""
    return torch.compile(model.__call__, dynamic=False) if painting.is_compiled else model


def new_previews(
    data: Latents,
    teachers: Teachers,
    painting: Painting,
    learning: Learning,
    *,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> list[Masked]:
    """What is known of the targets of a few sequences, one by one, as far as enough of them is not.

    Some sequences are painted again first, if anybody does.
    """
    batch = Batch(*(x.to(generator.device) for x in draw(data, painting.drawing, rng)))
    clean = batch.clip[:, RECENT:].flatten(0, 1)
    batch = with_own_depth(teachers, batch, painting.own_depth, generator)
    if learning.wearing is not None:
        batch = with_repainted(learning.wearing, teachers, batch, painting.wear, rng=rng, generator=generator)
    with torch.no_grad():
        shown = previews(teachers, batch, shipped(data.latents.shape[-1]), edge=learning.painter.config.camera.edge)
    unknown, (least, most) = news(shown.shares), painting.unknown
    chosen, base = ((unknown > least) & (unknown < most)).nonzero().flatten(), blanked(shown.base, shown.shares)
    return [Masked(*row) for row in zip(base[chosen], shown.shares[chosen], clean[chosen], strict=True)]


def behind_masks(data: Latents, pool: Sequence[Masked], painting: Painting, *, rng: np.random.Generator) -> Masked:
    """A batch: half of the pool, half recorded frames behind masks of the pool, or of which nothing is known."""
    met = [pool[i] for i in rng.integers(len(pool), size=painting.frames // 2)]
    count = painting.frames - len(met)
    masks = torch.stack([pool[i].shares for i in rng.integers(len(pool), size=count)])
    masks[: round(painting.nothing * painting.frames)] = 0
    e, t = rng.integers(len(data.latents), size=count), rng.integers(data.latents.shape[1], size=count)
    clean = torch.from_numpy(np.asarray(data.latents[e, t], np.float32)).to(masks.device)
    recorded = Masked(clean * known(masks), masks, clean)
    return Masked(*(torch.cat([torch.stack(a), b]) for a, b in zip(zip(*met, strict=True), recorded, strict=True)))


def painting_loss(predict: Predict, shown: Masked, painting: Painting, generator: torch.Generator) -> dict[str, Tensor]:
    """Flow matching in x-prediction (Rectified Flow, arXiv 2209.03003), mostly of what is not known."""
    noisy, sigma = noised(shown.clean, painting, generator)
    made = predicted(predict, noisy, sigma, shown)
    error = unseen_mean((made - shown.clean).square(), shown.shares)
    first = error[sigma == 1] if bool((sigma == 1).any()) else error
    return {"loss": (error / (sigma.square() + 0.25)).mean(), "first": first.detach().mean()}


def noised(clean: Tensor, painting: Painting, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Frames (n, C, h, w) on their way from noise, and their levels (n,)."""
    draws = (torch.rand(len(clean), generator=generator, device=generator.device) for _ in range(2))
    pure, sigma = next(draws) < painting.pure, 0.04 + 0.96 * next(draws)
    sigma = torch.where(pure, 1.0, painting.shift * sigma / (1 + (painting.shift - 1) * sigma))
    level = sigma[:, None, None, None]
    return (1 - level) * clean + level * noise_like(clean, generator), sigma


def predicted(predict: Predict, noisy: Tensor, sigma: Tensor, shown: Masked) -> Tensor:
    """What noisy frames (n, C, h, w) at `sigma` (n,) are taken to be."""
    controls = noisy.new_zeros(len(noisy), 3)
    with torch.autocast(noisy.device.type, torch.bfloat16):
        made = predict(Target(noisy, sigma, controls, shown.base, shown.base, shown.shares))
    return made.float()


def unseen_mean(error: Tensor, shares: Tensor) -> Tensor:
    """Mean (n,) of errors (n, C, h, w), of which those count most that lie where nothing is known."""
    unknown = 1.1 - known(shares)[:, 0]
    return (error.mean(1) * unknown).sum((1, 2)) / unknown.sum((1, 2))
