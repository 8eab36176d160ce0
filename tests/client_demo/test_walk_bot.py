"""The bot's plan, and its recordings as a player would read them."""

import asyncio
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from client_demo.walk_bot import Recorder, there_and_back, walk

AXES = [
    {"name": "move", "keys": {"KeyW": 1.0, "KeyS": -1.0}},
    {"name": "turn", "keys": {"ArrowRight": -1.0}, "pointer": "x"},
    {"name": "jump"},
]


def test_the_plan_walks_turns_and_comes_back() -> None:
    plan = list(islice(there_and_back(AXES, frame_rate=10.0), 2 * (40 + 1 + 20 + 1)))
    assert plan[:40] == [{"move": 1.0}] * 40
    assert plan[40] == {"move": 0.0}
    assert plan[41:61] == [{"turn": -1.0}] * 20  # what the key does, whatever its sign
    assert plan[61] == {"turn": 0.0}
    assert plan[62:] == plan[:62]


def test_a_world_without_those_keys_is_watched_standing_still() -> None:
    assert list(islice(there_and_back([{"name": "x"}], frame_rate=10.0), 100)) == [{}] * 100


def test_a_recording_keeps_pictures_and_their_times(tmp_path: Path) -> None:
    path = tmp_path / "walk.mp4"
    lights = {100: 40, 101: 80, 104: 120, 105: 200}  # frames 102 and 103 never came
    with Recorder(path, frame_rate=20.0) as recorder:
        places = [recorder.add(np.full((32, 48, 3), light, np.uint8), index=i) for i, light in lights.items()]
    assert places == [0, 1, 4, 5]
    assert recorder.num_frames == 4
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt == "yuv420p"
        frames = list(container.decode(stream))
    assert [round(frame.time * 20) for frame in frames] == places
    for frame, light in zip(frames, lights.values(), strict=True):
        assert frame.to_ndarray(format="rgb24").mean() == pytest.approx(light, abs=3)


def test_a_recording_of_nothing_can_be_closed(tmp_path: Path) -> None:
    with Recorder(tmp_path / "empty.mp4", frame_rate=20.0) as recorder:
        pass
    assert recorder.num_frames == 0


def test_the_bot_saves_what_it_walked(url: str, tmp_path: Path) -> None:
    out = tmp_path / "walk.mp4"
    count = asyncio.run(walk(url, {"codec": "jpeg", "seed": 3}, out=out, seconds=1.0))
    assert 5 <= count <= 51  # at 50 frames per second, of which some may be late
    with av.open(str(out)) as container:
        pictures = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert len(pictures) == count
    assert pictures[0].shape == (16, 32, 3)
    assert np.abs(pictures[0] - pictures[-1]).mean() > 20
