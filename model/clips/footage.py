"""Given videos: their frames at the model's rate and size, one at a time."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np

from .fit import fit
from .mp4 import VideoError, open_video

MAX_PIXELS = 16_000_000  # of a frame


def read_frames(path: Path, *, rate: Fraction, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) uint8 of `shape`, as shown at times 0, 1 / rate, ... after the first.

    Raises VideoError for a file that is no video or breaks off.
    """
    for frame in _shown(path, rate):
        # threads=1: swscale's own threads wait for each other longer than they work
        stored = frame.reformat(format="rgb24", threads=1).to_ndarray()
        yield fit(np.rot90(stored, round(frame.rotation / 90)), shape=shape)


def count_frames(path: Path, *, rate: Fraction) -> int:
    """How many frames `read_frames` gives, by decoding them all."""
    return sum(1 for _ in _shown(path, rate))


def last_frames(path: Path, num: int, *, rate: Fraction, shape: tuple[int, int]) -> tuple[int, Iterator[np.ndarray]]:
    """The last `num` frames of `read_frames`, or all if there are fewer, and how many come before them."""
    skipped = max(0, count_frames(path, rate=rate) - num)
    return skipped, islice(read_frames(path, rate=rate, shape=shape), skipped, None)


def _shown(path: Path, rate: Fraction) -> Iterator[av.VideoFrame]:
    """The frame on the screen at each tick of `rate`; the last one stays for as long as the file says, or as others."""
    held: av.VideoFrame | None = None
    shown, now, end = 0, Fraction(0), Fraction(0)
    with open_video(path) as container:
        codec = container.streams.video[0].codec_context
        if codec.width * codec.height > MAX_PIXELS:
            size = f"{codec.width}x{codec.height}"
            raise VideoError(f"expected frames of at most {MAX_PIXELS} pixels, got {size} in {path}")
        start: Fraction | None = None
        for frame in container.decode(video=0):
            if frame.pts is None or frame.time_base is None:
                raise VideoError(f"expected frames with times, got one without in {path}")
            time = frame.pts * frame.time_base
            start = time if start is None else start
            before, now = now, time - start
            # a frame may come a quarter of a tick late: containers round times
            while held is not None and (shown + Fraction(1, 4)) / rate <= now:
                yield held
                shown += 1
            held, end = frame, now + (frame.duration * frame.time_base or now - before)
        if held is None:
            raise VideoError(f"expected a video, got no frame in {path}")
        for _ in range(shown, max(1, round(end * rate))):
            yield held
