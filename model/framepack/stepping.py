"""One step of many samplings at once: those that look alike to the network go through it together."""

from collections.abc import Hashable, Sequence
from typing import Protocol

from torch import Tensor

from .network import Context, Network, Row


class Sampling(Protocol):
    """Something between noise and latents."""

    @property
    def context(self) -> Context: ...

    @property
    def steps_left(self) -> int: ...

    def row(self) -> Row:
        """What the network is asked at the next step."""

    def take(self, velocity: Tensor) -> None:
        """Step on with the answer (1, C, S, h, w)."""


def step_all(network: Network, jobs: Sequence[Sampling]) -> None:
    """One step of each job that has steps left."""
    alike: dict[Hashable, list[Sampling]] = {}
    for job in jobs:
        if job.steps_left:
            alike.setdefault(job.context.layout, []).append(job)
    for batch in alike.values():
        velocities = network.velocity([job.row() for job in batch])
        for job, velocity in zip(batch, velocities.split(1), strict=True):
            job.take(velocity)
