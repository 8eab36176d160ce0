"""Requests: they travel whole, and what cannot be is refused."""

import shlex
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.clips.request import (
    ClipRequest,
    Given,
    RequestError,
    Tag,
    check_values,
    command_line,
    num_new_frames,
    num_sections,
    output_size,
    parse_size,
    parse_tag,
    rate_of,
)
from model.world_model import ControlSchema, ModelSpec


def spec(*, shape: tuple[int, int] = (128, 128), rate: float = 15.0, section: int = 1, ratio: int = 1) -> ModelSpec:
    return ModelSpec("m", shape, rate, (4, 8, 8), section, ratio, "f1k1_g1", 1, 0, 1, 1, 1, ControlSchema(()), 1)


@given(
    st.builds(
        ClipRequest,
        seconds=st.floats(0.01, 86_400),
        seed=st.integers(0, 2**53 - 1),
        timeline=st.text(max_size=20),
        order=st.sampled_from(["vanilla", "inverted"]),
        size=st.none() | st.just((64, 32)),
        given=st.builds(Given, image=st.text(max_size=9), keep=st.booleans()),
        revive=st.lists(st.integers(0, 99), max_size=3).map(tuple),
    )
)
def test_a_tag_brings_its_request_back(request: ClipRequest) -> None:
    tag = Tag(request, "rewander generate", "1", 5, 1, {"image": "ab"})
    assert parse_tag(msgspec.json.encode(tag).decode()) == tag


@pytest.mark.parametrize(
    "comment", ["", "a holiday", "{}", '{"format":"rewander.clip.v0"}', msgspec.json.encode(ClipRequest()).decode()]
)
def test_other_comments_are_no_tags(comment: str) -> None:
    with pytest.raises(RequestError, match="expected a comment by Rewander"):
        parse_tag(comment)


def test_tags_of_other_versions_are_refused() -> None:
    comment = msgspec.json.encode(Tag(ClipRequest(), "", "1", 1, 0, {}, format="rewander.clip.v9")).decode()
    with pytest.raises(RequestError, match="v1, got 'rewander.clip.v9'"):
        parse_tag(comment)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (ClipRequest(seconds=0), "seconds"),
        (ClipRequest(seconds=float("nan")), "seconds"),
        (ClipRequest(seconds=1e6), "seconds"),
        (ClipRequest(seed=-1), "seed"),
        (ClipRequest(size=(33, 32)), "size"),
        (ClipRequest(order="random"), "order"),  # type: ignore[arg-type]
        (ClipRequest(given=Given(image="a.png", video="b.mp4")), "got both"),
    ],
)
def test_values_are_checked(request_: ClipRequest, expected: str) -> None:
    with pytest.raises(RequestError, match=expected):
        check_values(request_)


@pytest.mark.parametrize(
    ("seconds", "end", "frames", "sections"),
    [(5, "", 150, 5), (1.25, "", 38, 2), (0.001, "", 1, 1), (1.25, "e.png", 36, 1), (1.9, "e.png", 72, 2)],
)
def test_lengths(seconds: float, end: str, frames: int, sections: int) -> None:
    request = ClipRequest(seconds=seconds, given=Given(end=end))
    large = spec(rate=30.0, section=9, ratio=4)
    assert (num_new_frames(request, large), num_sections(request, large)) == (frames, sections)


def test_rates_are_fractions_that_players_know() -> None:
    assert rate_of(spec(rate=29.97002997)) == Fraction(30_000, 1001)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((128, 128), None, (512, 512)),
        ((16, 32), None, (128, 64)),
        ((480, 832), None, (832, 480)),
        ((480, 832), (416, 240), (416, 240)),
        ((128, 128), (300, 298), (300, 298)),
    ],
)
def test_sizes(shape: tuple[int, int], size: tuple[int, int] | None, expected: tuple[int, int]) -> None:
    assert output_size(ClipRequest(size=size), spec(shape=shape)) == expected


def test_a_size_of_other_aspect_is_refused() -> None:
    with pytest.raises(RequestError, match="aspect of the model's 128x128, got 640x480"):
        output_size(ClipRequest(size=(640, 480)), spec())


@pytest.mark.parametrize("text", ["", "512", "axb", "512x", "15x16", "17x18", "5000x16", "-16x16"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(RequestError, match=f"got .?{text}"):
        parse_size(text)
    assert parse_size("640x480") == (640, 480)


def test_a_command_line_says_what_is_not_usual() -> None:
    assert command_line(ClipRequest(), Path("a b.mp4")) == "rewander generate 'a b.mp4'"
    request = ClipRequest(
        seconds=2.5, timeline="[0s: turn=1]", size=(64, 32), recall=False, given=Given(video="v.mp4", keep=False)
    )
    words = shlex.split(command_line(request, Path("o.mp4")))
    assert words[3:] == [
        *("--seconds", "2.5", "--timeline", "[0s: turn=1]", "--size", "64x32", "--video", "v.mp4"),
        *("--no-recall", "--no-keep"),
    ]
