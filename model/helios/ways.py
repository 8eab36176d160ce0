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


class Way(NamedTuple):
    """What `parts.helios` is told besides the parts."""

    plan: Plan
    guidance: Guidance


def way_of(config: Mapping[str, Any]) -> Way:
    """From a scheduler_config.json: Base goes straight, Mid climbs with CFG-Zero*, Distilled climbs without guidance.

    The numbers are those that diffusers advises. Raises CourseError for another scheduler.
    """
    name = config.get("_class_name")
    if name not in (DISTILLED, OTHERS):
        raise CourseError(f"expected a {OTHERS} or {DISTILLED}, got {name!r}")
    scheduler = _made(HeliosDMDScheduler if name == DISTILLED else HeliosScheduler, config)
    if name == DISTILLED:
        return Way(PyramidPlan(scheduler, (2, 2, 2), is_thorough_at_first=True), Guidance(1.0))
    if config.get("stages", 3) == 1:
        return Way(StraightPlan(scheduler, 50), Guidance(5.0))
    return Way(PyramidPlan(scheduler, (20, 20, 20), num_still=2), Guidance(5.0, is_projected=True))


def _made(cls: Any, config: Mapping[str, Any]) -> Any:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # numpy's, about diffusers' code
        return cls.from_config(dict(config))
