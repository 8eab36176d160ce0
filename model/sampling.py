"""Flow-matching samplers, one step at a time: x_sigma = (1 - sigma) x_0 + sigma noise, velocity = noise - x_0."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


def flow_sigmas(steps: int, *, shift: float = 1.0) -> list[float]:
    """Noise levels from 1 to 0, `steps` + 1 of them, shifted towards noise (SD3, arXiv 2403.03206, eq. 23).

    Raises ValueError unless steps >= 1 and shift > 0.
    """
    if steps < 1 or not (shift > 0 and math.isfinite(shift)):
        raise ValueError(f"expected at least 1 step and a positive shift, got {steps} steps and shift {shift}")
    even = [1 - i / steps for i in range(steps + 1)]
    return [shift * s / (1 + (shift - 1) * s) for s in even]


def shift_of_tokens(tokens: int, *, limit: float = 7.0) -> float:
    """The shift of a section of `tokens`: e^mu, with mu linear in the tokens (FLUX), up to FramePack's limit."""
    mu = 0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256)
    return min(math.exp(mu), limit)


def sigmas_of(steps: int, *, shift: float) -> Tensor:
    """`flow_sigmas` as solvers take them."""
    return torch.tensor(flow_sigmas(steps, shift=shift))


def euler_step(x: Tensor, denoised: Tensor, sigma: Tensor, next_sigma: Tensor) -> Tensor:
    """One Euler step of the flow from `sigma` to `next_sigma`, each (B,), given the predicted clean x (B, ...)."""
    ratio = (next_sigma / sigma).view(-1, *(1,) * (x.ndim - 1))
    return denoised + ratio * (x - denoised)


def euler(x: Tensor, predict: Callable[[Tensor, Tensor], Tensor], sigmas: Sequence[float]) -> Tensor:
    """From x (B, ...) at the first of `sigmas` to the last; `predict(x, sigma)` is the clean x, for sigma (B,)."""
    for pair in pairwise(sigmas):
        sigma, after = (x.new_full((len(x),), level) for level in pair)
        x = euler_step(x, predict(x, sigma), sigma, after)
    return x


class Solver(Protocol):
    """One trajectory through `sigmas`, (steps + 1,) float32 on the CPU, of which `done` steps are behind it."""

    sigmas: Tensor
    done: int

    def step(self, x: Tensor, velocity: Tensor) -> Tensor:
        """From x and the model's velocity at sigma `done` to x at the next one; both float32."""


@dataclass(slots=True)
class Euler:
    """First order: straight ahead."""

    sigmas: Tensor
    done: int = 0

    def step(self, x: Tensor, velocity: Tensor) -> Tensor:
        ahead = (self.sigmas[self.done + 1] - self.sigmas[self.done]).to(x.device)
        self.done += 1
        return x + ahead * velocity


def _minus_log(sigma: float) -> float:
    return -math.log(sigma)


@dataclass(slots=True)
class UniPC:
    """Predictor and corrector of high order at one evaluation per step (UniPC, arXiv 2302.04867, with B(h) = h).

    It extrapolates the predicted clean x as a polynomial in `clock` of sigma: -log sigma by default, as FramePack's
    released models were shown; the paper's half log-SNR is the other choice. The last step lands on the clean x.
    """

    sigmas: Tensor
    order: int = 3
    clock: Callable[[float], float] = _minus_log
    done: int = 0
    _before: Tensor | None = None  # x at the step before, corrected
    _denoised: list[Tensor] = field(default_factory=list)  # newest last, as many as the order needs
    _used_order: int = 0

    def step(self, x: Tensor, velocity: Tensor) -> Tensor:
        denoised = x - self.sigmas[self.done].to(x.device) * velocity
        steps = len(self.sigmas) - 1
        if self.done == steps - 1:
            self.done += 1
            return denoised
        if self._before is not None:
            x = self._update(self._before, to=self.done, order=self._used_order, arrived=denoised)
        self._denoised = [*self._denoised, denoised][-self.order :]
        self._before = x
        self._used_order = min(self.order, self.done + 1, max(steps - 1, 1))
        self.done += 1
        return self._update(x, to=self.done, order=self._used_order)

    def _update(self, x: Tensor, *, to: int, order: int, arrived: Tensor | None = None) -> Tensor:
        """x at step `to` from `x` one step before it: UniP, or UniC once the model has `arrived` (eq. 9 to 12)."""
        sigmas: list[float] = self.sigmas.tolist()
        start, now = to - 1, self.clock(sigmas[to - 1])
        h = self.clock(sigmas[to]) - now
        newest = self._denoised[-1]
        ratios = [(self.clock(sigmas[start - k]) - now) / h for k in range(1, order)]
        others = [self._denoised[-1 - k] for k in range(1, order)]
        if arrived is not None:
            ratios, others = [*ratios, 1.0], [*others, arrived]
        kept = sigmas[to] / sigmas[start]
        scale = (1 - kept) / -math.expm1(-h)
        x = kept * x + (1 - kept) * newest
        for weight, ratio, other in zip(_weights(ratios, h), ratios, others, strict=True):
            x = x + (scale * h * weight / ratio) * (other - newest)
        return x


def _weights(ratios: Sequence[float], h: float) -> Sequence[float]:
    """The a_m of eq. 6 and 7, for differences at `ratios` of the step h; a single one is 1/2 whatever its ratio is."""
    if len(ratios) < 2:
        return [0.5] * len(ratios)
    phi, values = math.expm1(-h) / -h, []
    for i in range(1, len(ratios) + 1):
        phi = (phi - 1 / math.factorial(i)) / -h
        values.append(math.factorial(i) * phi)
    weights: list[float] = np.linalg.solve(np.vander(ratios, increasing=True).T, np.array(values)).tolist()
    return weights
