"""An image's middle, at the size that a model wants."""

import numpy as np
import pytest

from model.clips.fit import fit


@pytest.mark.parametrize(("height", "width"), [(64, 128), (128, 64), (40, 20), (32, 32)])
def test_the_middle_of_an_image_fits(height: int, width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image[top : top + side, left : left + side] = 255
    assert fit(image, shape=(16, 16)).min() == 255
    assert fit(image, shape=(16, 16)).shape == (16, 16, 3)
