"""The way from noise to a chunk, as diffusers' pipelines go it: their own schedulers, one for each chunk.

C x h x w one latent, S latents of a chunk.
"""

import copy
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from diffusers.pipelines.helios.pipeline_helios import calculate_shift
from diffusers.schedulers.scheduling_helios import HeliosScheduler
from torch import Tensor


class CourseError(ValueError):
    """A scheduler that goes another way."""


class Course(Protocol):
    """One chunk's."""

    @property
    def steps_left(self) -> int: ...

    @property
    def sigma(self) -> Tensor:
        """() float64: where the next velocity is asked for, a thousandth of the model's time."""

    def begin(self, noise: Tensor) -> Tensor:
        """Where sampling starts, from `noise` (1, C, S, h, w) float32; call it once."""

    def step(self, x: Tensor, velocity: Tensor) -> Tensor:
        """On from `x` with the model's velocity there, both float32; its size may change."""


class Plan(Protocol):
    """How every chunk of a model is sampled."""

    @property
    def num_steps(self) -> int: ...

    @property
    def num_halvings(self) -> int:
        """How often latents are halved to begin with."""

    def course(self, generator: torch.Generator, *, tokens: int, is_first: bool) -> Course:
        """Of a chunk of `tokens` at full size, the world's first or another; `generator` for noise on the way."""


@dataclass(frozen=True, slots=True, eq=False)
class StraightPlan:
    """`HeliosPipeline`'s, as the scheduler of a checkpoint says. Raises CourseError for one that climbs a pyramid."""

    scheduler: HeliosScheduler
    num_steps: int = 50
    num_halvings: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        config: Any = self.scheduler.config
        if config.stages != 1:
            raise CourseError(f"expected the scheduler of HeliosPipeline, in one stage, got one of {config.stages}")

    def course(self, generator: torch.Generator, *, tokens: int, is_first: bool) -> Course:  # noqa: ARG002 - no noise
        return Straight(self.scheduler, steps=self.num_steps, tokens=tokens)


class Straight:
    """All steps at full size."""

    def __init__(self, scheduler: Any, *, steps: int, tokens: int) -> None:
        """`scheduler`, a HeliosScheduler, is copied; `tokens` of a chunk."""
        self._scheduler = copy.deepcopy(scheduler)
        sigmas = np.linspace(0.999, 0.0, steps + 1)[:-1]
        self._scheduler.set_timesteps(steps, sigmas=sigmas, mu=shift_of(self._scheduler.config, tokens))
        self._done = 0

    @property
    def steps_left(self) -> int:
        return len(self._scheduler.timesteps) - self._done

    @property
    def sigma(self) -> Tensor:
        return self._time / 1000

    def begin(self, noise: Tensor) -> Tensor:
        return noise

    def step(self, x: Tensor, velocity: Tensor) -> Tensor:
        (x, *_) = self._scheduler.step(velocity, self._time, x, return_dict=False)
        self._done += 1
        return x

    @property
    def _time(self) -> Tensor:
        time: Tensor = self._scheduler.timesteps[self._done]
        return time


def shift_of(config: Any, tokens: int) -> float:
    """mu of a scheduler that shifts by the number of tokens."""
    mu: float = calculate_shift(
        tokens,
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", 1.15),
    )
    return mu
