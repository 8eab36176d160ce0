"""Small real videos for tests, and how to look into them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = Fraction(15)


def gray(level: int, *, shape: tuple[int, int] = (32, 32)) -> np.ndarray:
    return np.full((*shape, 3), level, np.uint8)


def levels(num: int) -> list[int]:
    """Gray levels that a codec keeps apart."""
    return [20 + i * 200 // max(1, num - 1) for i in range(num)]


def write_video(
    path: Path, frames: list[np.ndarray], *, rate: Fraction = RATE, comment: str = "", codec: str = "libx264"
) -> Path:
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = comment
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "4"}
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def read_video(path: Path) -> np.ndarray:
    """All frames (n, H, W, 3) as they are stored."""
    with av.open(str(path)) as container:
        return np.stack([frame.reformat(format="rgb24", threads=1).to_ndarray() for frame in container.decode(video=0)])


def close(one: np.ndarray, other: np.ndarray, *, by: float = 4) -> bool:
    """Whether the means of pictures are equal but for what a codec does to them."""
    return bool(abs(one.astype(float).mean() - other.astype(float).mean()) <= by)
