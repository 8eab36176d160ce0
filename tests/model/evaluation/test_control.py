"""The rulers for turns, displacements and walls, on real frames whose answers are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluation.control import lowest, move_figures, turn_between, turn_figures, wall_figures
from model.evaluation.sets import SETS, render
from model.rooms.camera import Camera

SIZE = 64


class Shown:
    """A case as far as the rulers look at it."""

    def __init__(self, name: str, number: int = 0) -> None:
        self.frozen = SETS[name]
        self.video = render(self.frozen, number, size=SIZE)
        self.first = self.frozen.first
        self.reference = self.video.frames[self.first :]


@pytest.fixture(scope="module")
def cases():
    return {name: Shown(name) for name in ("turning", "moving", "into-wall")}


def test_turns_are_read_to_a_few_percent(cases):
    case = cases["turning"]
    row = turn_figures(case, case.reference)
    assert row["error"] == row["error_reference"] < 0.03
    slower = case.reference[np.arange(len(case.reference)) // 2]
    assert turn_figures(case, slower)["ratio"] == pytest.approx(0.5, abs=0.06)


def test_a_turn_back_is_negative(cases):
    frames = cases["turning"].reference
    there, back = turn_between(Camera(), frames[3], frames[4]), turn_between(Camera(), frames[4], frames[3])
    assert there == pytest.approx(1.0, abs=0.05) and back == pytest.approx(-1.0, abs=0.05)


def test_displacements_are_read_from_the_last_frame(cases):
    case = cases["moving"]
    assert move_figures(case, case.reference)["error"] < 0.03
    halfway = case.reference.copy()
    halfway[-1] = halfway[len(halfway) // 2 - 1]
    assert move_figures(case, halfway)["ratio"] == pytest.approx(0.5, abs=0.04)


def test_a_wall_that_stops_is_told_from_one_that_is_walked_through(cases):
    case = cases["into-wall"]
    stopped = wall_figures(case, case.reference)
    assert stopped["stopped"] == 1 and stopped["offset"] < 0.05
    retreating = case.reference.copy()
    retreating[-1] = case.video.frames[case.first - 1]  # half a metre before the wall, so far from where it should be
    row = wall_figures(case, retreating)
    assert row["stopped"] == 0 and row["offset"] > 0.2 and row["stopped_reference"] == 1


@given(st.floats(-0.9, 0.9), st.floats(0.5, 3))
def test_the_lowest_point_of_a_parabola_is_exact(centre, width):
    places = np.linspace(-1, 1, 21)
    assert lowest(places, ((places - centre) / width) ** 2) == pytest.approx(centre, abs=1e-6)


def test_an_end_that_is_lowest_is_itself():
    assert lowest([0.0, 1.0, 2.0], np.array([3.0, 2.0, 1.0])) == 2.0
