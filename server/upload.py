"""Read an image that a client sent, without letting it cost more than an image may."""

import struct
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from .protocol import ProtocolError

FORMATS = ("JPEG", "PNG", "WEBP")
TURNS = {  # by EXIF's orientation, what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)  # the second where warnings are errors
MAX_PIXELS = 16_000_000  # 60 kB can claim a hundred times as many


def read_image(data: bytes) -> np.ndarray:
    """RGB pixels (H, W, 3) uint8 of a JPEG, PNG or WebP, the way up that its EXIF says; takes milliseconds.

    Raises ProtocolError `input.image`.
    """
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width}x{image.height}"
                raise ProtocolError("input.image", f"expected an image of at most {MAX_PIXELS} pixels, got {size}")
            return np.asarray(_upright(image).convert("RGB"))
    except ProtocolError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, *TOO_LARGE) as error:
        raise ProtocolError("input.image", f"expected a JPEG, PNG or WebP, got something else: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    """Cameras save as the sensor lies and note how it was held; a damaged note turns nothing.

    Pillow's own `exif_transpose` also writes the note anew, which a hostile one can break in more ways.
    """
    image.load()
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, ValueError, TypeError, OSError, struct.error):
        return image
    return image if turn is None else image.transpose(turn)
