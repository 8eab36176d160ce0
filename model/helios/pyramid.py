"""`HeliosPyramidPipeline`'s way: first steps at a quarter and half of the size (pyramidal flow matching, 2410.05954).

C x h x w one latent, S latents of a chunk. Helios-Distilled plays in real time by it.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_helios import HeliosScheduler
from diffusers.schedulers.scheduling_helios_dmd import HeliosDMDScheduler
from torch import Tensor
from torch.nn import functional as F

from .course import Course, CourseError, shift_of

PATCH = 2  # latent pixels of a token each way


@dataclass(frozen=True, slots=True, eq=False)
class PyramidPlan:
    """Steps of each size, the smallest first. Raises CourseError for a scheduler with another number of stages."""

    scheduler: HeliosScheduler | HeliosDMDScheduler
    steps: tuple[int, ...] = (2, 2, 2)
    is_thorough_at_first: bool = False  # twice the steps for a world's first chunk, if the scheduler is the distilled's
    num_still: int = 0  # first steps whose velocity counts as none, as CFG-Zero* begins (arXiv 2503.18886)

    def __post_init__(self) -> None:
        config: Any = self.scheduler.config
        if config.stages != len(self.steps) or min(self.steps) < 1:
            raise CourseError(f"expected steps for each of the scheduler's {config.stages} stages, got {self.steps}")

    @property
    def num_steps(self) -> int:
        return sum(self.steps)

    @property
    def num_halvings(self) -> int:
        return len(self.steps) - 1

    def course(self, generator: torch.Generator, *, tokens: int, is_first: bool) -> Course:  # noqa: ARG002 - by size
        return Pyramid(self, generator, is_thorough=is_first and self.is_thorough_at_first)


class Pyramid:
    """Up from the smallest size; between two sizes noise smooths what enlarging made blocky."""

    def __init__(self, plan: PyramidPlan, generator: torch.Generator, *, is_thorough: bool) -> None:
        self._plan, self._generator, self._is_thorough = plan, generator, is_thorough
        self._scheduler: Any = copy.deepcopy(plan.scheduler)
        self._is_distilled = isinstance(plan.scheduler, HeliosDMDScheduler)
        self._stage = self._done = 0
        self._origin = torch.empty(0)

    @property
    def steps_left(self) -> int:
        factor = 2 if self._is_distilled and self._is_thorough else 1
        left = factor * sum(self._plan.steps[self._stage :]) - self._done
        return min(left, self._plan.num_steps)  # a thorough chunk's progress stands still at first

    @property
    def sigma(self) -> Tensor:
        time: Tensor = self._scheduler.timesteps[self._done]
        return time.long().double() / 1000  # the model was shown whole times only

    def begin(self, noise: Tensor) -> Tensor:
        for _ in range(self._plan.num_halvings):
            noise = _resized(noise, 0.5, mode="bilinear") * 2  # still of variance 1
        self._enter(0, like=noise)
        self._origin = noise
        return noise

    def step(self, x: Tensor, velocity: Tensor) -> Tensor:
        if self._stage == 0 and self._done < self._plan.num_still:
            velocity = torch.zeros_like(velocity)
        (x, *_) = self._scheduler.step(
            velocity, self._scheduler.timesteps[self._done], x, return_dict=False, **self._distilled()
        )
        self._done += 1
        if self._done == len(self._scheduler.timesteps) and self._stage < self._plan.num_halvings:
            x = self._climb(x)
        return x

    def _climb(self, x: Tensor) -> Tensor:
        self._enter(self._stage + 1, like=x)
        gamma, start = self._scheduler.config.gamma, self._scheduler.ori_start_sigmas[self._stage]
        signal = 1 - start
        alpha = 1 / (math.sqrt(1 + 1 / gamma) * (1 - signal) + signal)
        beta = alpha * (1 - signal) / math.sqrt(gamma)
        large = _resized(x, 2, mode="nearest")
        self._origin = alpha * large + beta * block_noise(large, gamma=gamma, generator=self._generator)
        return self._origin

    def _enter(self, stage: int, *, like: Tensor) -> None:
        """Begin a stage; diffusers shifts it by the tokens of the size before it, `like`."""
        tokens = like[0, 0].numel() // PATCH**2
        mu = shift_of(self._scheduler.config, tokens)
        self._scheduler.set_timesteps(self._plan.steps[stage], stage, mu=mu, is_amplify_first_chunk=self._is_thorough)
        self._stage, self._done = stage, 0

    def _distilled(self) -> dict[str, Any]:
        """What the distilled's scheduler asks for: it goes back to where its stage began, with less noise."""
        if not self._is_distilled:
            return {}
        own = self._scheduler
        return {
            "cur_sampling_step": self._done,
            "dmd_noisy_tensor": self._origin,
            "dmd_sigmas": own.sigmas,
            "dmd_timesteps": own.timesteps,
            "all_timesteps": own.timesteps,
        }


def _resized(x: Tensor, factor: float, *, mode: str) -> Tensor:
    """(1, C, S, h, w), every latent alone."""
    rows, columns = (int(size * factor) for size in x.shape[-2:])
    return F.interpolate(x[0].transpose(0, 1), size=(rows, columns), mode=mode).transpose(0, 1)[None]


def block_noise(like: Tensor, *, gamma: float, generator: torch.Generator) -> Tensor:
    """Noise whose pixels in each block of PATCH x PATCH are correlated by -gamma <= 1/3, so that it undoes enlarging.

    By the symmetric root of that covariance. diffusers asks for its Cholesky factor, which at gamma = 1/3 it has not:
    the sum of a block is then always 0, and what rounding leaves decides whether the factorization succeeds.
    """
    b, c, s, h, w = like.shape
    noise = torch.randn(b, c, s, h // PATCH, PATCH, w // PATCH, PATCH, generator=generator)
    mean = noise.mean(dim=(4, 6), keepdim=True)
    sums = math.sqrt(max(0.0, 1 - (PATCH**2 - 1) * gamma))
    blocks = math.sqrt(1 + gamma) * (noise - mean) + sums * mean
    return blocks.reshape(like.shape).to(like.device)
