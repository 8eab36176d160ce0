"""Decoders against the server's own encoders."""

from typing import Any

import numpy as np
import pytest

from client_demo.decoders import decoder
from server.encode import EncodeConfig, VideoEncoder, encode_jpeg


def gradient(height: int, width: int, *, shift: int = 0) -> np.ndarray:
    """A smooth coloured picture (height, width, 3), so that lossy codecs are close."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 200 // width + shift, y * 200 // height + shift, (x + y) * 100 // (width + height)], 2).astype(
        np.uint8
    )


def message(picture: Any) -> dict[str, Any]:
    return {name: getattr(picture, name) for name in ("codec", "key", "width", "height", "data")}


def error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def test_raw_rows_are_the_pixels() -> None:
    frame = gradient(5, 7)
    decode = decoder("raw", height=5, width=7)
    pixels = decode({"data": frame.tobytes(), "height": 5, "width": 7})
    np.testing.assert_array_equal(pixels, frame)


def test_jpeg_is_close() -> None:
    frame = gradient(48, 64)
    pixels = decoder("jpeg", height=48, width=64)(message(encode_jpeg(frame, quality=90)))
    assert pixels is not None
    assert pixels.shape == frame.shape
    assert error(pixels, frame) < 3


@pytest.mark.parametrize("size", [(48, 64), (256, 320)])
def test_every_h264_picture_comes_out_at_once_at_the_worlds_size(size: tuple[int, int]) -> None:
    encoder = VideoEncoder(size, frame_rate=20.0, config=EncodeConfig())
    decode = decoder("h264", height=size[0], width=size[1])
    for number in range(6):
        frame = gradient(*size, shift=5 * number)
        pixels = decode(message(encoder.encode(frame, key=number == 0, bit_rate=1_000_000)))
        assert pixels is not None
        assert pixels.shape == frame.shape
        assert error(pixels, frame) < 5


def test_h264_waits_for_a_key_frame() -> None:
    encoder = VideoEncoder((48, 64), frame_rate=20.0, config=EncodeConfig())
    pictures = [encoder.encode(gradient(48, 64), key=number in (0, 3), bit_rate=1_000_000) for number in range(5)]
    decode = decoder("h264", height=48, width=64)
    assert [decode(message(picture)) is not None for picture in pictures[1:]] == [False, False, True, True]


def test_other_codecs_are_refused() -> None:
    with pytest.raises(ValueError, match="'gif'"):
        decoder("gif", height=1, width=1)
