"""Any order that FramePack has: a plan of indices tells a model which latents to make and which to look at."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from ..drift.discretize import CODEBOOK, Codebook, CodebookError, discretize
from ..drift.orders import (
    EMPTY,
    Clip,
    OrderError,
    Sampling,
    endpoint,
    forward,
    inverted,
    planned,
    spread_endpoints,
)
from ..packing.schedule import Schedule
from ..world_model import Section, WorldModel
from .latents import LatentFile
from .making import Making, Sections
from .request import ClipRequest, Order, num_sections, rate_of
from .timeline import Timeline

Latents = Callable[[Sequence[int]], np.ndarray]  # of the clip's indices: (n, C, h, w) float16, zeros for EMPTY

REACHING: tuple[Order, ...] = ("endpoint", "planned", "inverted")  # orders that can arrive at a given end


@dataclass(frozen=True, slots=True, eq=False)
class Aim:
    """What a planned sampling is to make, and what of the clip there is already."""

    sampling: Sampling
    latents: Latents  # ask for the sources of views and tail; those not made yet are not among them
    controls: np.ndarray  # (len(target) x frames_per_latent, A)
    prompts: tuple[str, ...]  # one for each section of the target


@runtime_checkable
class PlannedModel(WorldModel, Protocol):
    """A WorldModel that also makes sections out of time's order.

    The noise of a section must follow from the state's seed and its place in the clip, not from what was made before.
    `advance` and `finish` take the jobs of both `begin` and `begin_planned`.
    """

    schedules: Mapping[Order, str]  # the orders it was trained for, each with its usual schedule

    def begin_planned(self, state: Any, aim: Aim) -> Any:
        """Start one sampling; its job finishes as one section of len(aim.sampling.target) latents."""


@runtime_checkable
class DiscreteModel(PlannedModel, Protocol):
    """A PlannedModel whose weights may have been trained with a codebook, for schedules that end in +D."""

    codebook: Codebook | None


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """What a planned clip is made from."""

    model: PlannedModel
    state: Any  # fresh from `open`
    request: ClipRequest
    timeline: Timeline
    before: Sequence[np.ndarray]  # given latents (C, h, w), oldest first, the start among them
    after: Sequence[np.ndarray]  # given end latents


class PlannedMaker:
    """Implements `Maker` over a plan of `model/drift/orders`."""

    def __init__(self, stage: Stage, made: LatentFile) -> None:
        """Raises OrderError, ScheduleError or CodebookError for a plan that model, schedule or clip do not allow."""
        self._stage, self._made = stage, made
        self._codebook = codebook_of(stage.model, schedule_of(stage))
        self.order: list[Sections] = [self._sections(sampling.target) for sampling in plan(stage)]
        self._rank = {section: rank for rank, section in enumerate(chain.from_iterable(self.order))}
        self._end = len(stage.before) + len(self._rank) * stage.model.spec.section_latents
        self._samplings = enumerate(plan(stage))  # a second time: kept, a long clip's plan takes more than its frames

    def restore(self, made: LatentFile) -> None:
        assert made is self._made, "it is read while it grows"

    def make(self, number: int) -> Making:
        model = self._stage.model
        sampling = next(sampling for i, sampling in self._samplings if i == number)
        job = model.begin_planned(self._stage.state, self._aim(sampling))
        while job.steps_left:
            model.advance([job])
            yield
        [section] = model.finish([job])
        return list(_split(section, model.spec.section_latents))

    def _sections(self, target: Sequence[int]) -> Sections:
        size, given = self._stage.model.spec.section_latents, len(self._stage.before)
        return tuple((latent - given) // size for latent in target[::size])

    def _aim(self, sampling: Sampling) -> Aim:
        stage, spec = self._stage, self._stage.model.spec
        per_section, rate = spec.section_latents * spec.frames_per_latent, rate_of(spec)
        axes = tuple(axis.name for axis in spec.controls.axes)
        frames = [range(i * per_section, (i + 1) * per_section) for i in self._sections(sampling.target)]
        controls = [stage.timeline.controls(part, axes=axes, rate=rate) for part in frames]
        middles = [Fraction(part.start + per_section // 2) / rate for part in frames]
        prompts = tuple(stage.timeline.prompt(time, otherwise=stage.request.prompt) for time in middles)
        return Aim(sampling, self._read, np.concatenate(controls), prompts)

    def _read(self, indices: Sequence[int]) -> np.ndarray:
        latents = np.stack([self._latent(index) for index in indices])
        if self._codebook is None:
            return latents
        rows = torch.from_numpy(latents.astype(np.float32)).movedim(0, 1)[None]
        return discretize(rows, self._codebook)[0].movedim(1, 0).half().numpy()

    def _latent(self, index: int) -> np.ndarray:
        stage, spec = self._stage, self._stage.model.spec
        if index == EMPTY:
            return np.zeros(spec.latent_shape, np.float16)
        if index < len(stage.before):
            return stage.before[index]
        if index >= self._end:
            return stage.after[index - self._end]
        section, place = divmod(index - len(stage.before), spec.section_latents)
        latent: np.ndarray = self._made.read(self._rank[section]).latents[place]
        return latent


def plan(stage: Stage) -> Iterator[Sampling]:
    """The samplings of a clip; raises OrderError or ScheduleError before the first."""
    request, spec, schedule = stage.request, stage.model.spec, schedule_of(stage)
    if schedule.target != spec.section_latents:
        raise OrderError(f"expected a schedule with sections of {spec.section_latents} latents, got {schedule}")
    clip = Clip(num_sections(request, spec), given=len(stage.before), ends=len(stage.after))
    if request.order == "planned":
        return planned(schedule, clip, endpoints=spread_endpoints(clip.sections, count=request.endpoints))
    return {"vanilla": forward, "endpoint": endpoint, "inverted": inverted}[request.order](schedule, clip)


def schedule_of(stage: Stage) -> Schedule:
    """What is asked for, or the order's own; raises ScheduleError."""
    return Schedule.parse(stage.request.schedule or stage.model.schedules[stage.request.order])


def codebook_of(model: WorldModel, schedule: Schedule) -> Codebook | None:
    """What discretizes the history of a +D schedule, None for others; raises CodebookError if the weights have none."""
    if not schedule.is_discrete:
        return None
    codebook = model.codebook if isinstance(model, DiscreteModel) else None
    if codebook is None:
        raise CodebookError(
            f"expected weights that were trained with a codebook ({CODEBOOK} beside them) for the +D of {schedule}, "
            f"got those of {model.spec.name} without one"
        )
    return codebook


def check_order(request: ClipRequest, model: WorldModel) -> None:
    """Raise OrderError for an order that `model` cannot follow, or one that cannot reach the given end.

    CodebookError for +D with weights that have no codebook, ScheduleError for a schedule that is none.
    """
    name = model.spec.name
    orders = tuple(model.schedules) if isinstance(model, PlannedModel) else ("vanilla",)
    if request.order not in orders:
        raise OrderError(f"expected the order {' or '.join(orders)}, which {name} can follow, got {request.order}")
    if request.given.end and request.order not in REACHING:
        able = [order for order in orders if order in REACHING]
        there = f"{name} can follow {' and '.join(able)}" if able else f"{name} is causal and can follow none"
        raise OrderError(
            f"expected one of the orders {', '.join(REACHING)} to arrive at an end frame ({there}), "
            f"got {request.order}, which makes the past before the future"
        )
    if isinstance(model, PlannedModel):
        codebook_of(model, Schedule.parse(request.schedule or model.schedules[request.order]))
    elif request.schedule and request.schedule != model.spec.schedule:
        raise OrderError(f"expected the schedule {model.spec.schedule}, which {name} has, got {request.schedule}")


def _split(section: Section, size: int) -> Iterator[Section]:
    for first in range(0, len(section.latents), size):
        part = slice(first, first + size)
        yield Section(section.latents[part], section.poses[part])
