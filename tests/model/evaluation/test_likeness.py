"""Rooms are like other rooms, and unlike what is fog or has its floor somewhere else."""

import numpy as np
import pytest

from model.evaluation.likeness import Glimpses, bent, frechet, glimpses
from model.rooms.world import load


def test_the_distance_of_normal_distributions_is_the_closed_form():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((200_000, 2))
    wide = draws * (3, 1) + (1, 2)
    assert frechet(draws, draws) == pytest.approx(0, abs=1e-9)
    assert frechet(draws, wide) == pytest.approx(1 + 4 + (3 - 1) ** 2, rel=0.02)


@pytest.mark.weights
def test_other_rooms_are_nearer_than_fog_and_floors_in_the_middle():
    model = load()
    one, other = (glimpses(40, size=128, first_seed=seed) for seed in (14_000_000, 14_000_100))
    rooms = Glimpses(model, one)
    among_rooms = rooms.unlikeness(other)
    assert rooms.unlikeness(one) == pytest.approx(0, abs=1e-6)
    assert rooms.unlikeness(np.roll(other, 64, 1)) > 2 * among_rooms  # the floor in the middle
    assert rooms.unlikeness(other // 4 + 96) > 2 * among_rooms  # fog


@pytest.mark.weights
def test_rooms_are_upright_but_not_when_tipped_over():
    model, rooms = load(), glimpses(40, size=128, first_seed=14_000_000)
    assert bent(model, rooms) < 0.12
    assert bent(model, np.rot90(rooms, axes=(1, 2)).copy()) > 1.5 * bent(model, rooms)
    assert bent(model, np.roll(rooms, 64, 1)) > 2 * bent(model, rooms)  # the floor in the middle
