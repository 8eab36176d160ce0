"""Read an image that a client sent, without letting it cost more than an image may."""

from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from .protocol import ProtocolError

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 16_000_000  # 60 kB can claim a hundred times as many


def read_image(data: bytes) -> np.ndarray:
    """RGB pixels (H, W, 3) uint8 of a JPEG, PNG or WebP; raises ProtocolError `input.image`. Takes milliseconds."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width}x{image.height}"
                raise ProtocolError("input.image", f"expected an image of at most {MAX_PIXELS} pixels, got {size}")
            return np.asarray(image.convert("RGB"))
    except ProtocolError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ProtocolError("input.image", f"expected a JPEG, PNG or WebP, got something else: {error}") from error
