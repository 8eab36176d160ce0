"""Profiles: what is read from depth, and what is made of them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.rooms.geometry import tangents
from model.rooms.profile import BEYOND, Profile, depths_of, profile_of

EDGE, EYE, SIZE = math.tan(math.radians(37.5)), 1.5, 64


def room(near: torch.Tensor, ceiling: float) -> torch.Tensor:
    """Inverse depth of walls of inverse distance `near` (B, m), on a floor, `ceiling` metres above the eye."""
    v = tangents(SIZE, EDGE, near.device)[:, None]
    return torch.maximum(near[:, None], torch.where(v > 0, v / EYE, -v / ceiling))


@settings(max_examples=30, deadline=None)
@given(st.floats(0.12, 0.45), st.floats(-0.25, 0.25), st.floats(0.9, 1.9))
def test_an_empty_room_is_its_profile(distance: float, slope: float, ceiling: float) -> None:
    near = (distance + slope * tangents(SIZE, EDGE, torch.device("cpu"))).clamp(min=0.08)[None]
    depths = room(near, ceiling)
    profile = profile_of(depths, edge=EDGE)
    assert profile.known.all()
    torch.testing.assert_close(profile.near, near, atol=0.002, rtol=0.02)
    torch.testing.assert_close(depths_of(profile, edge=EDGE, eye=EYE), depths, atol=0.02, rtol=0.06)


def test_a_wall_from_near_goes_on_above_the_picture() -> None:
    profile = profile_of(torch.full((1, SIZE, SIZE), 2.0), edge=EDGE)
    assert profile.top.unique().tolist() == [pytest.approx(BEYOND * EDGE)]
    assert (depths_of(profile, edge=EDGE, eye=EYE) == 2.0).all()


def test_a_lintel_ends_what_is_seen_below_it() -> None:
    depths = room(torch.full((1, SIZE), 0.25), 1.5)
    row = SIZE // 2 - 12  # from there upwards the wall that the door is in
    depths[:, :row] = 0.4
    top = profile_of(depths, edge=EDGE).top
    v = -tangents(SIZE, EDGE, depths.device)
    assert v[row] <= float(top.amin()) <= float(top.amax()) <= v[row - 1]


def test_columns_of_which_nothing_is_known_are_told() -> None:
    depths = room(torch.full((2, SIZE), 0.3), 1.2)
    depths[0, :, 40:], depths[1, ::2] = 0.0, 0.0
    profile, whole = profile_of(depths, edge=EDGE), profile_of(room(torch.full((1, SIZE), 0.3), 1.2), edge=EDGE)
    assert profile.known[0].tolist() == [True] * 40 + [False] * 24
    assert profile.known[1].all()  # every other row is enough
    torch.testing.assert_close(profile.near[1], whole.near[0])


def test_what_is_known_of_nothing_is_finite() -> None:
    profile = profile_of(torch.zeros(1, SIZE, SIZE), edge=EDGE)
    assert not profile.known.any()
    assert all(part.isfinite().all() for part in (profile.near, profile.top))
    assert depths_of(Profile(*profile), edge=EDGE, eye=EYE).isfinite().all()
