"""A bot that walks there and back, looks around, and saves what it saw: `python -m client_demo.walk_bot`."""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from contextlib import aclosing
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np

from .client import Client

Axes = dict[str, float]
TURN_SECONDS = 2.0  # of one look around, as long as half a turn takes in `rooms`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="ws://127.0.0.1:8000/ws")
    parser.add_argument("--token", default="", help="if the server asks for one")
    parser.add_argument("--seed", type=int, help="of the world; any, if not given")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the world's time (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("walk.mp4"))
    wanted = parser.parse_args()
    place = {"codec": "jpeg", "seed": wanted.seed, "token": wanted.token}
    count = asyncio.run(walk(wanted.url, place, out=wanted.out, seconds=wanted.seconds))
    sys.stdout.write(f"{wanted.out}: {count} frames\n")


async def walk(url: str, place: dict[str, Any], *, out: Path, seconds: float) -> int:
    """Walk for `seconds` of the world's time and write the frames to `out`; returns how many came."""
    async with Client(url, **place) as world:
        last = round(seconds * world.frame_rate)
        plan = there_and_back(world.welcome["axes"], frame_rate=world.frame_rate)
        with Recorder(out, frame_rate=world.frame_rate) as recorder:
            async with aclosing(world.frames()) as frames:
                async for frame in frames:
                    if recorder.add(frame.pixels, index=frame.receipt.frame) >= last:
                        break
                    await world.steer(axes=next(plan))
        return recorder.num_frames


def there_and_back(axes: list[dict[str, Any]], *, frame_rate: float) -> Iterator[Axes]:
    """One control per frame, for ever: walk, turn, walk back, turn. `axes` is the welcome's schema."""
    forward, turn = _axis_of(axes, "KeyW", "ArrowUp"), _axis_of(axes, "ArrowRight", "KeyD")
    legs: list[tuple[float, Axes]] = [(2 * TURN_SECONDS, forward), (TURN_SECONDS, turn)]
    while True:
        for length, control in legs:
            for _ in range(round(length * frame_rate)):
                yield control
            yield dict.fromkeys(control, 0.0)


def _axis_of(axes: list[dict[str, Any]], *codes: str) -> Axes:
    """The axis that one of the keys steers, at that key's value; nothing if the world knows none of them."""
    for code in codes:
        for axis in axes:
            if code in axis.get("keys", {}):
                return {axis["name"]: axis["keys"][code]}
    return {}


class Recorder:
    """Writes frames to an MP4 that every player plays; frames that never came show the one before longer."""

    def __init__(self, path: Path, *, frame_rate: float) -> None:
        self.num_frames = 0
        self._rate = Fraction(frame_rate).limit_denominator(1000)
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": "16"})
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = 1 / self._rate
        self._first = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.num_frames:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def add(self, pixels: np.ndarray, *, index: int) -> int:
        """Append world frame `index`, (H, W, 3) uint8 with even H and W; returns its place in the recording."""
        if not self.num_frames:
            self._stream.height, self._stream.width = pixels.shape[:2]
            self._first = index
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        picture.pts, picture.time_base = index - self._first, 1 / self._rate
        self._container.mux(self._stream.encode(picture))
        self.num_frames += 1
        return index - self._first


if __name__ == "__main__":
    main()
