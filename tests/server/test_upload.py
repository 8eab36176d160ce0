"""Images are read, and what is none is refused by name, whatever it is."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from server.protocol import ProtocolError
from server.upload import FORMATS, read_image

COLOUR = (200, 90, 30)


def encoded(format: str, mode: str = "RGB") -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (40, 30), COLOUR).convert(mode).save(buffer, format)
    return buffer.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_is_read(format: str) -> None:
    pixels = read_image(encoded(format))
    assert pixels.shape == (30, 40, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - COLOUR).max() < 12


def test_other_modes_become_rgb() -> None:
    assert read_image(encoded("PNG", "P")).shape == (30, 40, 3)
    assert read_image(encoded("PNG", "LA")).shape == (30, 40, 3)


@pytest.mark.parametrize("format", ["BMP", "GIF", "TIFF"])
def test_other_formats_are_refused(format: str) -> None:
    with pytest.raises(ProtocolError, match="expected a JPEG") as refused:
        read_image(encoded(format))
    assert refused.value.code == "input.image"


def test_a_bomb_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(ProtocolError, match=r"30000x30000|pixels|expected"):
        read_image(png + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))


@given(st.sampled_from(FORMATS), st.integers(0, 400), st.binary(max_size=8))
def test_damage_is_refused_or_read(format: str, place: int, junk: bytes) -> None:
    data = bytearray(encoded(format))
    data[place : place + len(junk)] = junk
    try:
        assert read_image(bytes(data)).ndim == 3
    except ProtocolError as refused:
        assert refused.code == "input.image"


@given(st.binary(max_size=100))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_image(data)
