"""The finished file: any player plays it, and it tells how it was made."""

import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from model.clips.mp4 import Mp4Writer, VideoError, open_video, read_comment

from .videos import close, gray, levels, read_video, write_video

RATE = Fraction(15)


def written(path: Path, frames: list[np.ndarray], *, size: tuple[int, int], comment: str = "") -> Path:
    with Mp4Writer(path, size=size, rate=RATE, comment=comment) as writer:
        for frame in frames:
            writer.write(frame)
        writer.finish()
    return path


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def boxes(path: Path) -> list[bytes]:
    """The names of the file's boxes, in order (ISO 14496-12, 4.2)."""
    data, names = path.read_bytes(), []
    while data:
        names.append(data[4:8])
        data = data[int.from_bytes(data[:4]) :]
    return names


def test_a_file_plays_everywhere(tmp_path: Path) -> None:
    frames = [gray(level, shape=(24, 32)) for level in levels(40)]
    path = written(tmp_path / "a.partial", frames, size=(64, 48))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        assert (codec.name, codec.profile, codec.pix_fmt) == ("h264", "High", "yuv420p")
        assert (codec.width, codec.height, stream.average_rate, stream.frames) == (64, 48, RATE, 40)
        assert (codec.color_range, codec.colorspace) == (1, 6)
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([i / 15 for i in range(40)], abs=1e-3)
    assert boxes(path).index(b"moov") < boxes(path).index(b"mdat")


def test_frames_come_back(tmp_path: Path) -> None:
    frames = [gray(level) for level in levels(9)]
    frames[4][:16] = (200, 40, 40)
    again = read_video(written(tmp_path / "a.mp4", frames, size=(64, 64)))
    assert len(again) == 9
    assert all(close(one, other) for one, other in zip(frames, again, strict=True))
    assert np.abs(again[4, 10, 30].astype(int) - (200, 40, 40)).max() < 16


def test_key_frames_are_two_seconds_apart_at_most(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp4", [gray(90)] * 100, size=(32, 32))
    with av.open(str(path)) as container:
        keys = [i for i, packet in enumerate(container.demux(video=0)) if packet.is_keyframe and packet.size]
    assert keys[:3] == [0, 30, 60]


@pytest.mark.parametrize("comment", ["", '{"a": "b"}', "zwölf Räume\n[0s: 廊下]", "x" * 30_000])
def test_comments_come_back(tmp_path: Path, comment: str) -> None:
    assert read_comment(written(tmp_path / "a.mp4", [gray(9)], size=(32, 32), comment=comment)) == comment


def test_equal_frames_give_equal_files(tmp_path: Path) -> None:
    frames = [gray(level) for level in levels(20)]
    one, other = (written(tmp_path / name, frames, size=(32, 32), comment="c") for name in ("a.mp4", "b.mp4"))
    assert one.read_bytes() == other.read_bytes()


def test_without_an_end_there_is_no_video(tmp_path: Path) -> None:
    with Mp4Writer(tmp_path / "a.mp4", size=(32, 32), rate=RATE, comment="") as writer:
        writer.write(gray(9))
    with pytest.raises(VideoError), open_video(tmp_path / "a.mp4") as container:
        next(container.decode(video=0))


def test_a_file_that_lost_frames_is_noticed(tmp_path: Path) -> None:
    with Mp4Writer(tmp_path / "a.mp4", size=(32, 32), rate=RATE, comment="") as writer:
        writer.write(gray(9))
        writer.num_frames += 1
        with pytest.raises(VideoError, match="expected 2 frames .* got 1"):
            writer.finish()


def test_memory_is_flat(tmp_path: Path) -> None:
    """Of 2,000 frames of 48 kB, which is 96 MB, nothing stays but the index."""
    frame = gray(100, shape=(128, 128))
    with Mp4Writer(tmp_path / "a.mp4", size=(128, 128), rate=RATE, comment="") as writer:
        for _ in range(500):
            writer.write(frame)
        before = resident_bytes()
        tracemalloc.start()
        for _ in range(1_500):
            writer.write(frame)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        writer.finish()
        assert resident_bytes() - before < 8_000_000
    assert peak < 1_000_000


@pytest.mark.parametrize("data", [b"", b"no video", b"\0" * 1000])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(VideoError, match="expected a video, got .*a.mp4"):
        read_comment(tmp_path / "a.mp4")


def test_missing_files_and_sound_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="none.mp4"):
        read_comment(tmp_path / "none.mp4")
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(VideoError, match="no pictures"):
        read_comment(tmp_path / "a.wav")


def test_videos_by_others_have_comments_too(tmp_path: Path) -> None:
    assert read_comment(write_video(tmp_path / "a.mov", [gray(9)], comment="hello")) == "hello"
