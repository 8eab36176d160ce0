"""Images are read, and what is none is refused by name, whatever it is."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

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


def photograph(format: str, orientation: int, *, junk: bytes = b"", place: int = 0) -> bytes:
    """Red above blue, noted to be turned; the note may be damaged."""
    image = Image.new("RGB", (40, 30), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 40, 15))
    note = Image.Exif()
    note[ExifTags.Base.Orientation] = orientation
    data = bytearray(note.tobytes())
    data[place : place + len(junk)] = junk
    buffer = BytesIO()
    image.save(buffer, format, exif=bytes(data))
    return buffer.getvalue()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_read_the_way_up_that_pillow_shows_it(format: str, orientation: int) -> None:
    data = photograph(format, orientation)
    pixels = read_image(data)
    assert pixels.shape == ((30, 40, 3) if orientation < 5 else (40, 30, 3))
    np.testing.assert_array_equal(pixels, ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB"))


@pytest.mark.parametrize(("orientation", "edge"), [(1, "top"), (3, "bottom"), (6, "right"), (8, "left")])
def test_what_was_above_goes_where_the_note_says(orientation: int, edge: str) -> None:
    edges = {"top": np.s_[0], "bottom": np.s_[-1], "left": np.s_[:, 0], "right": np.s_[:, -1]}
    pixels = read_image(photograph("PNG", orientation))
    assert {name for name, place in edges.items() if (pixels[place] == (255, 0, 0)).all()} == {edge}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow tells of what it skips
@given(st.sampled_from(FORMATS), st.integers(0, 40), st.binary(max_size=30))
def test_a_damaged_note_turns_nothing_and_breaks_nothing(format: str, place: int, junk: bytes) -> None:
    assert read_image(photograph(format, 6, junk=junk, place=place)).size == 40 * 30 * 3


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
@example("WEBP", 27, b"\x17\x00;")  # claims 89.5 million pixels
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
