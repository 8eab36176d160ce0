"""The three releases by their schedulers' configurations."""

import pytest

from model.helios.course import CourseError, StraightPlan
from model.helios.pyramid import PyramidPlan
from model.helios.ways import way_of


def test_base_goes_straight():
    plan, guidance = way_of({"_class_name": "HeliosScheduler", "stages": 1, "use_dynamic_shifting": True})
    assert isinstance(plan, StraightPlan)
    assert (plan.num_steps, guidance.scale, guidance.is_projected) == (50, 5.0, False)
    assert plan.scheduler.config.use_dynamic_shifting


def test_mid_climbs_with_zero_star():
    plan, guidance = way_of({"_class_name": "HeliosScheduler", "stages": 3})
    assert isinstance(plan, PyramidPlan)
    assert (plan.steps, plan.num_still, guidance.scale, guidance.is_projected) == ((20, 20, 20), 2, 5.0, True)


def test_distilled_climbs_in_six_steps():
    plan, guidance = way_of({"_class_name": "HeliosDMDScheduler", "gamma": 0.25})
    assert isinstance(plan, PyramidPlan)
    assert (plan.num_steps, plan.is_thorough_at_first, guidance.scale) == (6, True, 1.0)
    assert plan.scheduler.config.gamma == 0.25


def test_steps_are_shared_by_the_sizes():
    assert way_of({"_class_name": "HeliosScheduler", "stages": 1}, steps=7).plan.num_steps == 7
    assert way_of({"_class_name": "HeliosDMDScheduler"}, steps=9).plan.steps == (3, 3, 3)
    with pytest.raises(CourseError, match="steps for 3 sizes alike, a multiple of that, got 10"):
        way_of({"_class_name": "HeliosScheduler", "stages": 3}, steps=10)


@pytest.mark.parametrize("name", ["UniPCMultistepScheduler", None])
def test_another_scheduler_is_refused(name):
    with pytest.raises(CourseError, match=f"HeliosScheduler or HeliosDMDScheduler, got {name!r}"):
        way_of({"_class_name": name} if name else {})
