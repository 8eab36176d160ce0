"""Default indices, against those of FramePack's demos."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.packing.layout import lay_out
from model.packing.schedule import Schedule


def spans(name, **gaps):
    places = lay_out(Schedule.parse(name), **gaps)
    return [(place.role, place.indices[0], place.indices[-1]) for place in places]


def test_f1_equals_the_official_demo():
    assert spans("f1k1f16k4f2k2f1k1_g9", after=99) == [
        ("start", 0, 0),
        ("recent", 1, 16),
        ("recent", 17, 18),
        ("recent", 19, 19),
        ("target", 20, 28),
    ]


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_inverted_equals_the_official_demo(padding):
    pad = padding * 9
    assert spans("f1k1_x_g9_f1k1f2k2f16k4_td", before=pad) == [
        ("start", 0, 0),
        ("target", pad + 1, pad + 9),
        ("future", pad + 10, pad + 10),
        ("future", pad + 11, pad + 12),
        ("future", pad + 13, pad + 28),
    ]


def test_an_endpoint_stands_after_the_gap():
    assert spans("td_f16k4f2k2f1k1_g9_x_f1k1", after=5)[-2:] == [("target", 19, 27), ("future", 33, 33)]


@given(
    st.sampled_from(["f1k1f4s2f1s1f16k4f2k2f1k1_g1", "f1k1_x_g9_f2k1f16k4", "ta_f3k1_g2_x_f5k2"]),
    st.integers(0, 99),
    st.integers(0, 99),
)
def test_indices_grow_and_skip_around_the_target_only(name, before, after):
    places = lay_out(Schedule.parse(name), before=before, after=after)
    indices = [index for place in places for index in place.indices]
    target = next(place.indices for place in places if place.role == "target")
    left, right = target[0] - before, target[-1] + after + 1
    assert indices == [*range(left), *target, *range(right, indices[-1] + 1)]
    assert target == tuple(range(target[0], target[0] + len(target)))
    assert all(len(place.indices) == place.segment.frames for place in places)
