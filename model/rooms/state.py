"""What a session of `rooms` keeps from frame to frame, and what is known of one that is being made.

Legend: B jobs, m context tokens, n target tokens, H heads, d head size, C x h x w one latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..world_model import Section
from .context import Cache
from .dit import KV
from .scouting import GAP, Scout


@dataclass(slots=True)
class RoomsState:
    """A session's own memory: its pose, what led there, and the features of context groups."""

    start: Section
    seed: int
    pose: Tensor = field(default_factory=lambda: torch.zeros(3))
    last_pose: Tensor = field(default_factory=lambda: torch.zeros(3))
    last_control: Tensor = field(default_factory=lambda: torch.zeros(3))
    sections: int = 0
    cache: Cache = field(default_factory=dict)
    scouts: tuple[Scout, ...] = ()
    scouted: int = -GAP  # the section before which the last scout was sent

    def moves_to(self, pose: Tensor) -> bool:
        """Whether `pose` (3,) is another than that of the last frame."""
        return not torch.equal(pose.cpu(), self.pose)

    def noise(self, shape: Sequence[int]) -> Tensor:
        """What the next frame is made from, of `shape` (C, h, w): (1, C, h, w)."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.sections + 1) % 2**63)
        return torch.randn((1, *shape), generator=generator)


class Preparation(NamedTuple):
    """What is known of a coming frame from its control and the frames before; B is 1 or that of a batch."""

    control: Tensor  # (B, A)
    pose: Tensor  # (B, 3) where it will be seen from
    base: Tensor  # (B, C, h, w), and the next two: see `views.Preview`
    recalled: Tensor  # (B, C, h, w)
    shares: Tensor  # (B, 2, h, w)


@dataclass(slots=True)
class RoomsJob:
    """One frame being sampled: everything that stays the same over its steps, and the noisy latent."""

    state: RoomsState
    prepared: Preparation
    context: KV  # (depth, 1, m, H, d)
    bias: Tensor  # (1, 1, 1, m + n)
    noisy: Tensor  # (1, C, h, w) float32
    sigmas: list[float]
    step: int = 0

    @property
    def steps_left(self) -> int:
        return len(self.sigmas) - 1 - self.step
