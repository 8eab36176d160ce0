"""Small recorded episodes, drawn at random."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from model.training.latents import Latents
from model.training.record import FORMAT


def data(episodes: int = 2, frames: int = 60) -> Latents:
    """Encoded episodes: every frame's latents, controls and depths are its own; depths are smooth."""
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((episodes, frames, 16, 16, 16)).astype(np.float16)
    depths = np.kron(rng.uniform(0.2, 0.8, (episodes, frames, 4, 4)), np.ones((16, 16))).astype(np.float16)
    controls = rng.uniform(-1, 1, (episodes, frames, 3)).astype(np.float32)
    poses = np.cumsum(rng.normal(0, 0.1, (episodes, frames, 3)), 1).astype(np.float32)
    return Latents(latents, depths, controls, poses)


def write(path: Path, seed: int, *, length: int = 5, has_depth: bool = True, num_controls: int = 3) -> Path:
    """An episode file of 16 x 16 pixels."""
    rng = np.random.default_rng(seed)
    arrays = {
        "frames": rng.integers(0, 256, (length, 16, 16, 3)).astype(np.uint8),
        "controls": rng.uniform(-1, 1, (length, num_controls)).astype(np.float32),
        "poses": rng.standard_normal((length, 3)).astype(np.float32),
    }
    if has_depth:
        arrays["depths"] = rng.uniform(0.1, 2, (length, 8, 8)).astype(np.float16)
    save_file(arrays, path, {"format": FORMAT})
    return path
