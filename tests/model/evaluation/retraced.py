"""A small world for the tables: weights of a small model on disk, and synthetic walks there and back."""

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from model.evaluation.courses import SET
from model.evaluation.sets import FORMAT, SETS
from model.rooms.depth import Depth
from model.rooms.weights import save_weights

from ..rooms.small import networks
from .synthetic import there_and_back, video_of


def lay_out(folder: Path, *, videos: int = 1) -> tuple[Path, Path]:
    """Write weights and walks; returns their folders."""
    weights, frozen = folder / "weights", folder / "frozen"
    save_weights(weights, networks()._replace(depth=Depth()), torch.randn(3, 16, 16, 16))
    (frozen / SET).mkdir(parents=True)
    half = SETS[SET].length // 2
    for number in range(videos):
        poses = there_and_back(half)
        poses[:, 0] = 2 + (poses[:, 0] - 2) / 8 + number
        video = video_of(poses, seed=SETS[SET].first_seed + number)
        arrays = {name: np.ascontiguousarray(getattr(video, name)) for name in ("frames", "controls", "poses", "reach")}
        metadata = {"set": SET, "seed": str(video.seed), "format": FORMAT}
        save_file(arrays, frozen / SET / f"{number:03d}.safetensors", metadata)
    return weights, frozen
