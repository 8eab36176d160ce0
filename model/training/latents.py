"""Encode recorded episodes once, into arrays that training maps into memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ..rooms.vae import VAE
from .dit import Latents
from .record import load_episode
from .vae import to_unit


def encode_episodes(vae: VAE, episodes: list[Path], folder: Path) -> Iterator[int]:
    """Write latents.npy (E, T, C, h, w) float16, controls.npy and poses.npy for episodes of one length.

    Yields the number of episodes done; what a killed run has done is kept. Raises ValueError for an
    episode that is shorter than the first or moves by other controls.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vae = vae.eval().to(dtype=torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
    first = load_episode(episodes[0])
    shape, controls = (len(first.frames), *_encode(vae, first.frames[:1]).shape[1:]), first.controls.shape
    latents_out = _array(folder / "latents.npy", (len(episodes), *shape), np.float16)
    controls_out = _array(folder / "controls.npy", (len(episodes), *controls), np.float32)
    poses_out = _array(folder / "poses.npy", (len(episodes), shape[0], 3), np.float32)
    progress = folder / "done"
    done = int(progress.read_text()) if progress.exists() else 0
    for i in range(done, len(episodes)):
        episode = load_episode(episodes[i])
        if episode.controls.shape != controls:
            raise ValueError(f"{episodes[i]}: expected controls of shape {controls}, got {episode.controls.shape}")
        latents_out[i], controls_out[i], poses_out[i] = _encode(vae, episode.frames), episode.controls, episode.poses
        progress.write_text(str(i + 1))
        yield i + 1


def load_latents(folder: Path) -> Latents:
    """Map the arrays of `encode_episodes` into memory, as many episodes as are done."""
    done = int((folder / "done").read_text())
    return Latents(*(np.load(folder / f"{name}.npy", mmap_mode="c")[:done] for name in Latents._fields))


@torch.inference_mode()
def _encode(vae: VAE, frames: np.ndarray) -> np.ndarray:
    parts = []
    for part in np.split(frames, range(64, len(frames), 64)):
        images = to_unit(part).to(vae.mean.device, torch.bfloat16)
        parts.append(vae.encode(images.contiguous(memory_format=torch.channels_last)).half().cpu().numpy())
    return np.concatenate(parts)


def _array(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """A file that holds an array, kept if it has the right shape."""
    if path.exists():
        kept = np.lib.format.open_memmap(path, mode="r+")
        if kept.shape == shape:
            return kept
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
