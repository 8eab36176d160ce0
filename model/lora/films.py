"""Recorded episodes as films of latents: encoded once as videos, a file for each, which a killed run does not lose.

C x h x w one latent, r frames per latent; the first latent of a film is its first frame alone.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from ..clips.fit import fit
from ..framepack.pictures import Pictures
from ..training.record import load_episode
from ..world_model import History


class FilmError(ValueError):
    """An episode that is none, or too short to learn from."""


class Film(NamedTuple):
    """One episode."""

    start: np.ndarray  # (H, W, 3) uint8
    latents: np.ndarray  # (L, C, h, w) float16
    controls: np.ndarray  # (r (L - 1), A) float32: row i led from frame i to frame i + 1


class Moment(NamedTuple):
    """A section of a film, and what is known before it."""

    start: np.ndarray  # (H, W, 3) uint8
    history: History
    target: np.ndarray  # (S, C, h, w) float16
    controls: np.ndarray  # (r S, A) float32


def encode_films(
    pictures: Pictures, episodes: Sequence[Path], folder: Path, *, shape: tuple[int, int]
) -> Iterator[Path]:
    """Encode episodes that are not there yet, with frames of `shape` (H, W); yields each film's path when it is there.

    Raises ValueError for a file that is no episode.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ratio = pictures.form.temporal_ratio
    for source in episodes:
        path = folder / source.name
        if not path.exists():
            episode = load_episode(source)
            count = 1 + (len(episode.frames) - 1) // ratio * ratio
            frames = np.stack([fit(frame, shape=shape) for frame in episode.frames[:count]])
            latents = pictures.encode_video(frames).half().cpu().numpy()
            film = Film(frames[0], np.ascontiguousarray(latents), np.ascontiguousarray(episode.controls[1:count]))
            save_file(film._asdict(), path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
        yield path


def longest(episodes: Sequence[Path], folder: Path) -> int:
    """Frames of the longest episode that has no film in `folder` yet, by the heads of the files; 0 if all have.

    Raises FilmError for a file that is no episode.
    """
    lengths = [0]
    for source in episodes:
        if not (folder / source.name).exists():
            try:
                with safe_open(source, "numpy") as file:
                    lengths.append(file.get_slice("frames").get_shape()[0])
            except SafetensorError as error:
                raise FilmError(f"expected an episode of `rewander record` in {source}: {error}") from error
    return max(lengths)


def load_film(path: Path) -> Film:
    return Film(**load_file(path))


def moment(film: Film, *, first: int, section: int, num_recent: int) -> Moment:
    """The `section` latents from index `first` on, after a start and the `num_recent` latents before them.

    Raises FilmError if the film ends before them.
    """
    if not 1 <= first <= len(film.latents) - section:
        raise FilmError(f"expected a film of at least {first + section} latents, got one of {len(film.latents)}")
    indices = np.arange(first - num_recent, first)
    valid = indices >= 0
    recent = np.where(valid[:, None, None, None], film.latents[indices.clip(0)], 0)
    history = History(
        latents=np.concatenate([film.latents[:1], recent]).astype(np.float16),
        indices=np.concatenate([[0], indices.clip(0)]),
        poses=np.zeros((1 + num_recent, 3), np.float32),
        valid=np.concatenate([[True], valid]),
    )
    target = film.latents[first : first + section]
    return Moment(film.start, history, target, controls_of(film, first=first, section=section))


def controls_of(film: Film, *, first: int, section: int) -> np.ndarray:
    """(r S, A) of the `section` latents from index `first` on."""
    ratio = len(film.controls) // (len(film.latents) - 1)
    return film.controls[ratio * (first - 1) : ratio * (first - 1 + section)]
