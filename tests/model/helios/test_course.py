"""The ways from noise to a chunk; that they end where diffusers' pipelines do is shown in `test_world`."""

import pytest
import torch

from model.helios.course import CourseError, StraightPlan

from . import tiny


def test_a_straight_course_takes_its_steps_and_courses_share_nothing():
    plan, generator = StraightPlan(tiny.scheduler(), 4), torch.Generator().manual_seed(0)
    courses = [plan.course(generator, tokens=8640, is_first=False) for _ in range(2)]
    x = courses[0].begin(torch.ones(1, 2, 3, 4, 4))
    times = []
    while courses[0].steps_left:
        times.append(courses[0].sigma.item())
        x = courses[0].step(x, torch.ones_like(x))
    assert len(times) == 4
    assert times == sorted(times, reverse=True)
    assert times[0] == pytest.approx(0.999, abs=1e-3)
    torch.testing.assert_close(x, torch.full_like(x, 1 - times[0]))  # a constant velocity leads straight to the end
    assert courses[1].steps_left == 4


def test_noise_levels_are_shifted_by_the_size_of_a_chunk():
    generator = torch.Generator()
    middles = []
    for tokens in (256, 8640):
        course = StraightPlan(tiny.scheduler(scheduler_type="euler"), 2).course(generator, tokens=tokens, is_first=True)
        course.step(torch.ones(1, 2, 3, 4, 4), torch.ones(1, 2, 3, 4, 4))
        middles.append(course.sigma.item())
    assert 0.5 < middles[0] < middles[1] < 1


def test_a_scheduler_that_climbs_a_pyramid_is_refused():
    with pytest.raises(CourseError, match="in one stage, got one of 3"):
        StraightPlan(tiny.scheduler(stages=3))
