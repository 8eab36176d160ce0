"""Profiles: what is read from depth, and what is made of them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.rooms.geometry import tangents
from model.rooms.profile import BEYOND, depths_of, profile_of

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
