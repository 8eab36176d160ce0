"""What memories show of a view, in rooms where it can be reckoned by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_bank.sight import COLUMNS, pick, worth

RAYS = 16
FIELD = math.radians(75)
TANGENTS = ((np.arange(RAYS) + 0.5) / RAYS * 2 - 1) * math.tan(FIELD / 2)
SIDE = 6.0  # metres, of a square room with a corner at the origin
places = st.tuples(st.floats(0.5, 5.5), st.floats(0.5, 5.5), st.floats(-math.pi, math.pi))


def poses(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.asarray(rows, np.float32)


def sights(*rows: tuple[float, float, float]) -> np.ndarray:
    """How near the walls of the room are, as its cameras measure it."""
    found = []
    for x, y, heading in rows:
        east = math.cos(heading) + TANGENTS * math.sin(heading)
        north = math.sin(heading) - TANGENTS * math.cos(heading)
        ahead = np.maximum.reduce([east / (SIDE - x), -east / x, north / (SIDE - y), -north / y])
        found.append(ahead)
    return np.asarray(found, np.float32)


def shown(target: tuple[float, float, float], *memories: tuple[float, float, float], most: int = 64) -> np.ndarray:
    found = worth(poses(*memories), sights(*memories), poses(target), field_of_view=FIELD, most=most)
    assert found.shape == (len(memories), COLUMNS)
    return found


@given(places)
def test_a_memory_of_the_same_view_shows_all_of_it(place):
    assert shown(place, place) == pytest.approx(1, abs=0.02)


def test_a_memory_that_looks_elsewhere_shows_nothing():
    assert not shown((3, 3, 0), (3, 3, 0), (3, 3, math.pi))[1].any()


def test_a_turned_memory_shows_the_side_it_turned_to():
    left = shown((3, 3, 0), (3, 3, math.radians(40)))[0]
    assert left[: COLUMNS // 3].min() > 0.9
    assert not left[-COLUMNS // 3 :].any()


def test_the_nearer_aside_a_memory_stood_the_more_it_shows():
    near, far = shown((3, 3, 0), (3, 3, 0), (3, 3.3, 0), (3, 4.5, 0))[1:].mean(1)
    assert 0 < far < near < 1


def test_from_nearer_one_sees_less_of_a_wall_than_from_farther():
    closer, farther = shown((3, 3, 0), (4, 3, 0), (2, 3, 0))[:, COLUMNS // 2]
    assert closer < 0.7 * farther


def test_what_hides_a_wall_is_not_the_wall():
    """Two look at one wall from far, but something stands before one of them."""
    memories = poses((1, 3, 0), (1, 3, 0), (3, 3, 0))
    near = sights((1, 3, 0), (1, 3, 0), (3, 3, 0))
    near[1] = 1 / 0.6
    blocked = worth(memories, near, poses((2.5, 3, 0)), field_of_view=FIELD, most=64)
    assert blocked[1].max() < 0.35 * blocked[0].max()


def test_only_those_with_the_most_rays_there_are_looked_at():
    memories = [(3, 3, 0.9), (3, 3, 0), (3, 3, 0.5)]
    assert shown((3, 3, 0), *memories, most=1).any(1).tolist() == [False, True, False]
    assert shown((3, 3, 0), *memories).any(1).all()


def test_what_is_not_known_shows_nothing():
    place = (3.0, 3.0, 0.0)
    nowhere, blind = poses((math.nan,) * 3, place), sights(place, place)
    blind[1] = math.nan
    assert not worth(nowhere, blind, poses(place), field_of_view=FIELD, most=64).any()
    none = worth(np.zeros((0, 3)), np.zeros((0, RAYS)), poses(place, place), field_of_view=FIELD, most=64)
    assert none.shape == (0, 2 * COLUMNS)


@given(st.lists(places, min_size=1, max_size=12), st.lists(places, min_size=1, max_size=3))
def test_worths_are_shares_and_do_not_depend_on_other_targets(memories, targets):
    found = worth(poses(*memories), sights(*memories), poses(*targets), field_of_view=FIELD, most=64)
    assert (found >= 0).all() and (found <= 1 + 1e-5).all()
    np.testing.assert_array_equal(found[:, :COLUMNS], shown(targets[0], *memories))


@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), min_size=1, max_size=6), st.integers(1, 6))
def test_picks_add_the_most_each_time(rows, num):
    worths = np.asarray(rows, np.float32)
    picked, gains = pick(worths, num=num, least=0.01)
    assert len(set(picked)) == len(picked) <= num
    best = np.zeros(4, np.float32)
    for row, gain in zip(picked, gains, strict=True):
        every = np.maximum(worths - best, 0).mean(1)
        assert gain == pytest.approx(every.max()) == pytest.approx(every[row])
        best = np.maximum(best, worths[row])
    assert gains == sorted(gains, reverse=True)
    rest = np.maximum(worths - best, 0).mean(1).max()
    assert len(picked) == min(num, len(rows)) or rest < 0.01 + 1e-6


def test_two_halves_are_picked_before_a_third_that_shows_half_of_each():
    worths = np.asarray([[0.8, 0.8, 0.8, 0.0], [1, 1, 0, 0], [0, 0, 1, 1]], np.float32)
    assert pick(worths, num=2, least=0.0)[0] == [0, 2]
    assert pick(worths[1:], num=5, least=0.01) == ([0, 1], [0.5, 0.5])
