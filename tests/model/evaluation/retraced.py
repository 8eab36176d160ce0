"""A small world for the tables: weights of a small model on disk, and synthetic walks there and back."""

from pathlib import Path

import torch

from model.evaluation.courses import SET
from model.evaluation.sets import SETS, save
from model.rooms.depth import Depth
from model.rooms.weights import save_weights

from ..rooms.small import networks
from .synthetic import there_and_back, video_of


def lay_out(folder: Path, *, videos: int = 1) -> tuple[Path, Path]:
    """Write weights and walks; returns their folders."""
    weights, frozen = folder / "weights", folder / "frozen"
    save_weights(weights, networks()._replace(depth=Depth()), torch.randn(3, 16, 16, 16))
    half = SETS[SET].length // 2
    for number in range(videos):
        poses = there_and_back(half)
        poses[:, 0] = 2 + (poses[:, 0] - 2) / 8 + number
        video = video_of(poses, seed=SETS[SET].first_seed + number)
        save(video, frozen / SET / f"{number:03d}.safetensors", name=SET)
    return weights, frozen
