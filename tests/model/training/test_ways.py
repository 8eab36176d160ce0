import numpy as np
import pytest

from model.training.ways import Ways

CLEARANCE = 0.5
CORNERS = [(0, 0), (10, 0), (10, 6), (0, 6)]
ROOM = np.array([[a, b] for a, b in zip(CORNERS, CORNERS[1:] + CORNERS[:1], strict=True)], float)
PARTITION = np.array([[[5, 0], [5, 3.9]]], float)  # leaves 2.1 m open at the top
SHUT = np.array([[[5, 0], [5, 5.5]]], float)  # leaves less than a body


@pytest.fixture(scope="module")
def ways() -> Ways:
    return Ways(np.concatenate([ROOM, PARTITION]), clearance=CLEARANCE)


def test_places_are_free_and_reached(ways: Ways) -> None:
    rng, start = np.random.default_rng(0), np.array([1.0, 1.0])
    places = np.stack([ways.random_place(rng, start=start) for _ in range(200)])
    assert ways.is_free(places).all()
    assert (places > CLEARANCE - 1e-9).all()
    assert (places < np.array([10, 6]) - CLEARANCE + 1e-9).all()
    assert (places[:, 0] > 5).any()
    assert (places[:, 0] < 5).any()


def test_the_way_leads_around_a_wall_through_free_places(ways: Ways) -> None:
    start, goal = np.array([4.0, 1.0]), np.array([6.0, 1.0])
    corners = ways.way(start, goal)
    path = np.stack([start, *corners, goal])
    between = np.linspace(0, 1, 50)[:, None]
    walked = np.concatenate([a + between * (b - a) for a, b in zip(path, path[1:], strict=False)])
    away = np.abs(np.where(walked[:, 1] <= 3.9, walked[:, 0] - 5, np.inf)).min()
    assert away > 0
    assert ways.is_free(walked[25:-25]).all()
    assert 1 <= len(corners) <= 6
    length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    assert 6 < length < 10  # by the wall's end and back


def test_a_straight_way_has_no_corners(ways: Ways) -> None:
    assert ways.way(np.array([1.0, 5.0]), np.array([9.0, 5.0])) == []


def test_nothing_leads_through_a_gap_that_is_too_narrow() -> None:
    ways = Ways(np.concatenate([ROOM, SHUT]), clearance=CLEARANCE)
    rng, start = np.random.default_rng(0), np.array([1.0, 1.0])
    assert max(ways.random_place(rng, start=start)[0] for _ in range(200)) < 5
    assert ways.way(start, np.array([9.0, 1.0])) == []
