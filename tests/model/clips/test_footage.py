"""Given videos: at the model's rate and size, whatever theirs are."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from model.clips.footage import count_frames, last_frames, read_frames
from model.clips.mp4 import VideoError

from .videos import close, gray, levels, write_video

SHAPE = (32, 32)


def video(path: Path, *, num: int = 12, rate: int = 15) -> Path:
    return write_video(path, [gray(level) for level in levels(num)], rate=Fraction(rate))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi"])
def test_frames_at_their_own_rate_are_all_of_them(tmp_path: Path, suffix: str) -> None:
    frames = list(read_frames(video(tmp_path / f"v.{suffix}"), rate=Fraction(15), shape=SHAPE))
    assert len(frames) == 12
    assert all(close(frame, gray(level)) for frame, level in zip(frames, levels(12), strict=True))


@pytest.mark.parametrize(("rate", "chosen"), [(30, range(0, 12, 2)), (5, [i // 3 for i in range(36)])])
def test_other_rates_are_shown_in_the_same_time(tmp_path: Path, rate: int, chosen: list[int]) -> None:
    frames = list(read_frames(video(tmp_path / "v.mp4", rate=rate), rate=Fraction(15), shape=SHAPE))
    assert len(frames) == len(chosen)
    assert all(close(frame, gray(levels(12)[i])) for frame, i in zip(frames, chosen, strict=True))


def test_the_last_frames(tmp_path: Path) -> None:
    path = video(tmp_path / "v.mp4")
    assert count_frames(path, rate=Fraction(15)) == 12
    skipped, frames = last_frames(path, 5, rate=Fraction(15), shape=SHAPE)
    assert skipped == 7
    assert [close(frame, gray(level)) for frame, level in zip(frames, levels(12)[7:], strict=True)] == [True] * 5
    assert last_frames(path, 50, rate=Fraction(15), shape=SHAPE)[0] == 0


def test_a_video_that_breaks_off_is_refused(tmp_path: Path) -> None:
    path = video(tmp_path / "v.mp4")
    path.write_bytes(path.read_bytes()[:-2_000])
    with pytest.raises(VideoError):
        list(read_frames(path, rate=Fraction(15), shape=SHAPE))


def test_an_image_keeps_what_is_up(tmp_path: Path) -> None:
    image = gray(0, shape=(64, 64))
    image[:32, :, 0] = 250
    [frame] = read_frames(write_video(tmp_path / "v.mp4", [image]), rate=Fraction(15), shape=(16, 16))
    assert frame[:6, :, 0].min() > 200
    assert frame[10:, :, 0].max() < 50


def test_a_telephone_held_upright_makes_upright_frames(tmp_path: Path) -> None:
    """By the track's matrix (ISO 14496-12, 8.3.2) the point (p, q) is shown at (h - q, p): the top is on the right."""
    image = gray(0, shape=(64, 64))
    image[:32, :, 0] = 250
    path = write_video(tmp_path / "v.mp4", [image])
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 64 << 16, 0, 1 << 30)
    path.write_bytes(data)
    [frame] = read_frames(path, rate=Fraction(15), shape=(16, 16))
    assert frame[:, 10:, 0].min() > 200
    assert frame[:, :6, 0].max() < 50


def test_frames_too_large_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [np.zeros((5_000, 5_000, 3), np.uint8)], codec="mpeg4")
    with pytest.raises(VideoError, match="16000000 pixels, got 5000x5000"):
        count_frames(path, rate=Fraction(15))
