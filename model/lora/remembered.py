"""All that encoders have to say while a network learns, said before: they are large, and then they can go."""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..framepack.camera import Camera
from .films import load_film
from .framepack import FilmTraining, prompts_of


class Remembered:
    """Stands in for an encoder of prompts or of frames (H, W, 3) that was asked everything already."""

    def __init__(self, encode: Callable[[Any], Any], asked: Iterable[Any]) -> None:
        self._said = {_key(one): _on_host(encode(one)) for one in asked}

    def __call__(self, one: str | np.ndarray) -> Any:
        return self._said[_key(one)]


def remember(parts: Any, films: Sequence[Path], training: FilmTraining, *, camera: Camera) -> Any:
    """`parts` of a model without encoders and VAE, which answers what `film_task` will ask of these films.

    Raises FilmError as `film_task` does.
    """
    said: dict[str, Any] = {"texts": Remembered(parts.texts, prompts_of(films, training, camera=camera))}
    if hasattr(parts, "images"):
        said["images"] = Remembered(parts.images, (load_film(path).start for path in films))
    return parts._replace(vae=None, **said)


def _key(one: str | np.ndarray) -> str | bytes:
    return one if isinstance(one, str) else blake2b(one.tobytes()).digest()


def _on_host(said: Any) -> Any:
    """What is more than one tensor is there already."""
    return said.cpu() if isinstance(said, Tensor) else said
