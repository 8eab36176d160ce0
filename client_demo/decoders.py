"""Encoded pictures to numpy, one decoder per codec; each needs its library only when it is used."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

Decoder = Callable[[dict[str, Any]], np.ndarray | None]


def decoder(codec: str, *, height: int, width: int) -> Decoder:
    """A decoder for one connection's `frame` messages, in order: (height, width, 3) uint8 RGB, the world's own size.

    H.264 comes enlarged where frames are small, and is scaled back. The decoder returns None for an H.264 picture
    that it cannot show because no key frame has come yet.
    Raises ValueError for a codec that is not `raw`, `jpeg` or `h264`.
    """
    if codec == "raw":
        return _raw
    if codec == "jpeg":
        return _jpeg
    if codec == "h264":
        return _h264(height, width)
    raise ValueError(f"expected raw, jpeg or h264, got {codec!r}")


def _raw(frame: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(frame["data"], np.uint8).reshape(frame["height"], frame["width"], 3)


def _jpeg(frame: dict[str, Any]) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(frame["data"])).convert("RGB"))


def _h264(height: int, width: int) -> Decoder:
    import av
    from av.video.reformatter import Interpolation

    context = av.CodecContext.create("h264", "r")
    context.thread_count = 1  # more threads would hold back as many pictures
    has_key = False

    def decode(frame: dict[str, Any]) -> np.ndarray | None:
        nonlocal has_key
        has_key = has_key or frame["key"]
        if not has_key:
            return None
        pictures = context.decode(av.Packet(frame["data"]))
        if not pictures:
            return None
        picture = pictures[-1].reformat(width, height, "rgb24", interpolation=Interpolation.AREA)
        return picture.to_ndarray()

    return decode
