"""Images at the size that a model wants."""

import numpy as np
from PIL import Image


def fit(image: np.ndarray, *, shape: tuple[int, int]) -> np.ndarray:
    """The middle of an image (H, W, 3) uint8 with the aspect of `shape`, resized to it."""
    (height, width), (rows, columns) = image.shape[:2], shape
    if (height, width) == shape:
        return image
    scale = min(height / rows, width / columns)
    wide, high = round(columns * scale), round(rows * scale)
    left, top = (width - wide) // 2, (height - high) // 2
    middle = Image.fromarray(image[top : top + high, left : left + wide])
    return np.asarray(middle.resize((columns, rows), Image.Resampling.LANCZOS))
