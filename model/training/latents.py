"""Encode recorded episodes once, into arrays that training maps into memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..rooms.vae import VAE
from .record import EpisodeError, load_episode
from .vae import to_unit


class Latents(NamedTuple):
    """Recorded episodes: latents (E, T, C, h, w) and inverse depth (E, T, n, n) in 1/m, float16; controls
    (E, T, A) and poses (E, T, 3), float32.
    """

    latents: np.ndarray
    depths: np.ndarray
    controls: np.ndarray
    poses: np.ndarray


def encode_episodes(vae: VAE, episodes: list[Path], folder: Path) -> Iterator[int]:
    """Write the arrays of `Latents` for episodes of one length, as `<name>.npy`.

    Yields the number of episodes done; what a killed run has done is kept, unless there are more or other episodes
    now. Raises EpisodeError for an episode without depths, or of another length, size or controls than the first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vae = vae.eval().to(dtype=torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
    out, progress = _files(folder, _arrays(vae, episodes[0]), len(episodes)), folder / "done"
    done = int(progress.read_text()) if progress.exists() else 0
    for i in range(done, len(episodes)):
        for name, whole, part in zip(Latents._fields, out, _arrays(vae, episodes[i]), strict=True):
            if part.shape != whole.shape[1:]:
                raise EpisodeError(f"{episodes[i]}: expected {name} of shape {whole.shape[1:]}, got {part.shape}")
            whole[i] = part
        progress.write_text(str(i + 1))
        yield i + 1


def load_latents(folder: Path) -> Latents:
    """Map the arrays of `encode_episodes` into memory, as many episodes as are done."""
    done = int((folder / "done").read_text())
    return Latents(*(np.load(folder / f"{name}.npy", mmap_mode="c")[:done] for name in Latents._fields))


def _arrays(vae: VAE, path: Path) -> Latents:
    """What one episode adds to each array."""
    episode = load_episode(path)
    if episode.depths is None:
        raise EpisodeError(f"{path}: expected an episode with depths, as those of `rooms` are, got one without")
    return Latents(_encode(vae, episode.frames), episode.depths, episode.controls, episode.poses)


@torch.inference_mode()
def _encode(vae: VAE, frames: np.ndarray) -> np.ndarray:
    parts = []
    for part in np.split(frames, range(64, len(frames), 64)):
        images = to_unit(part).to(vae.mean.device, torch.bfloat16)
        parts.append(vae.encode(images.contiguous(memory_format=torch.channels_last)).half().cpu().numpy())
    return np.concatenate(parts)


def _files(folder: Path, first: Latents, count: int) -> Latents:
    """The arrays of `count` episodes like the `first`, as files; emptied if they are not what they should be."""
    paths = [folder / f"{name}.npy" for name in Latents._fields]
    shapes = [(count, *part.shape) for part in first]
    if all(path.exists() for path in paths):
        kept = [np.lib.format.open_memmap(path, mode="r+") for path in paths]
        if [array.shape for array in kept] == shapes:
            return Latents(*kept)
    (folder / "done").unlink(missing_ok=True)
    parts = zip(paths, shapes, first, strict=True)
    return Latents(*(np.lib.format.open_memmap(path, "w+", part.dtype, shape) for path, shape, part in parts))
