"""The finished file: H.264 in MP4 that plays everywhere, one frame at a time, with a comment that can be read back."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

BT601 = 6  # AVCOL_*_SMPTE170M: what the conversion below makes, said aloud
LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG
SCALING = Interpolation.LANCZOS | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
KEY_SECONDS = 2  # between key frames: how far a player may have to decode to seek
CRF = 16


class VideoError(ValueError):
    """A file that is no video, or not one of ours."""


class Mp4Writer:
    """A growing file of yuv420p frames. Its memory grows by the index of an MP4 alone, some 70 bytes a frame."""

    def __init__(self, path: Path, *, size: tuple[int, int], rate: Fraction, comment: str) -> None:
        """`size` is width and height, both even; frames of other sizes are scaled to it. Overwrites `path`."""
        self._path = path
        # faststart moves the index to the front at the end, so that players begin before they have the whole file
        self._container: OutputContainer = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._container.metadata["comment"] = comment
        self._stream: VideoStream = self._container.add_stream("libx264", rate=rate)
        self._size, self._rate = size, rate
        _configure(self._stream.codec_context, size=size, rate=rate)
        self.num_frames = 0

    def write(self, frame: np.ndarray) -> None:
        """Append one RGB frame (H, W, 3) uint8. Raises av.FFmpegError or OSError if the disk fails."""
        width, height = self._size
        image = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
            width=width, height=height, format="yuv420p", interpolation=SCALING, threads=1
        )
        image.pts, image.time_base = self.num_frames, 1 / self._rate
        self._container.mux(self._stream.encode(image))
        self.num_frames += 1

    def finish(self) -> None:
        """Make the file whole, on the disk. Without it, or if it raises, there is no video."""
        self._container.mux(self._stream.encode())
        self._container.close()
        with open_video(self._path) as container:
            written = container.streams.video[0].frames
        if written != self.num_frames:  # FFmpeg does not tell of every write that fails
            raise VideoError(f"expected {self.num_frames} frames in {self._path}, got {written}: is the disk full?")
        with self._path.open("rb") as file:
            os.fsync(file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the file, be it whole or not."""
        with suppress(av.FFmpegError, OSError):  # harmless after `finish`, and of no use before it
            self._container.close()


def read_comment(path: Path) -> str:
    """The comment of a video file, empty if it has none; raises VideoError."""
    with open_video(path) as container:
        return container.metadata.get("comment", "")


@contextmanager
def open_video(path: Path) -> Iterator[InputContainer]:
    """A file with at least one video stream; raises VideoError for anything else, also while it is being decoded."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"expected a video, got no pictures in {path}")
            yield container
    except av.FFmpegError as error:
        raise VideoError(f"expected a video, got {path}: {error}") from error


def _configure(codec: VideoCodecContext, *, size: tuple[int, int], rate: Fraction) -> None:
    codec.width, codec.height = size
    codec.pix_fmt = "yuv420p"  # others are not for every player
    codec.framerate, codec.time_base = rate, 1 / rate
    codec.gop_size = max(1, round(KEY_SECONDS * rate))
    codec.thread_count = 1  # the other cores belong to the model, and equal frames give an equal file
    codec.color_primaries = codec.color_trc = codec.colorspace = BT601
    codec.color_range = LIMITED_RANGE
    codec.profile = "High"
    codec.options = {"preset": "medium", "crf": str(CRF)}
