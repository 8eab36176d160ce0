"""How each release of Helios is sampled, as its scheduler's configuration tells them apart."""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from diffusers.schedulers.scheduling_helios import HeliosScheduler
from diffusers.schedulers.scheduling_helios_dmd import HeliosDMDScheduler

from ..wan.guided import Guidance
from .course import CourseError, Plan, StraightPlan
from .pyramid import PyramidPlan

DISTILLED, OTHERS = "HeliosDMDScheduler", "HeliosScheduler"
STRAIGHT_STEPS, PYRAMID_STEPS, DISTILLED_STEPS = 50, 20, 2  # of all, and of each size


class Way(NamedTuple):
    """What `parts.helios` is told besides the parts."""

    plan: Plan
    guidance: Guidance


def way_of(config: Mapping[str, Any], *, steps: int = 0) -> Way:
    """From a scheduler_config.json: Base goes straight, Mid climbs with CFG-Zero*, Distilled climbs without guidance.

    The numbers are those that diffusers advises, but for `steps` in all if there are any. Raises CourseError for
    another scheduler, and for steps that its sizes cannot share.
    """
    name = config.get("_class_name")
    if name not in (DISTILLED, OTHERS):
        raise CourseError(f"expected a {OTHERS} or {DISTILLED}, got {name!r}")
    is_distilled = name == DISTILLED
    scheduler = _made(HeliosDMDScheduler if is_distilled else HeliosScheduler, config)
    stages: int = scheduler.config.stages
    if not is_distilled and stages == 1:
        return Way(StraightPlan(scheduler, steps or STRAIGHT_STEPS), Guidance(5.0))
    if steps % stages:
        raise CourseError(f"expected steps for {stages} sizes alike, a multiple of that, got {steps}")
    each = (steps // stages or (DISTILLED_STEPS if is_distilled else PYRAMID_STEPS),) * stages
    if is_distilled:
        return Way(PyramidPlan(scheduler, each, is_thorough_at_first=True), Guidance(1.0))
    return Way(PyramidPlan(scheduler, each, num_still=2), Guidance(5.0, is_projected=True))


def _made(cls: Any, config: Mapping[str, Any]) -> Any:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # numpy's, about diffusers' code
        return cls.from_config(dict(config))
