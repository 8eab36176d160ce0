"""Textures as MiniWorld gets them: the colours that pyglet's own decoder gives, without its conversion."""

from model.training.rooms_env import WALLS  # first, since it opens the headless context

# isort: split

import pyglet
import pytest
from miniworld.utils import get_file_path
from pyglet.image.codecs.pil import PILImageDecoder


@pytest.mark.parametrize("name", [*(f"{wall}_1" for wall in WALLS[:2]), "portraits/byron1"])
def test_colours_are_those_of_pyglets_decoder(name: str) -> None:
    path = get_file_path("textures", name, "png")
    image = pyglet.image.load(path)
    assert image.format == "RGBA" and image.pitch == 4 * image.width  # what MiniWorld asks for, so nothing is converted
    with open(path, "rb") as file:
        reference = PILImageDecoder().decode(file, path)
    pixels = image.get_data("RGBA", 4 * image.width)
    expected = reference.get_data("RGBA", 4 * reference.width)
    assert all(pixels[channel::4] == expected[channel::4] for channel in range(3))  # nobody looks at the fourth
