"""Train motion compensation: displacement from recorded poses, inverse depth from how frames look (no depth maps)."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..rooms.camera import Camera, displacement_between
from ..rooms.motion import Motion, see_from
from .dit import Latents
from .loop import Run, fit
from .record import load_episode
from .vae import to_unit

BATCH = 32
LONGEST_GAP = 4  # frames between the two views of a training pair


class Pair(NamedTuple):
    """Two views of one place and the motion between them."""

    latents: Tensor  # (B, C, h, w) of the first
    first: Tensor  # (B, 3, H, W)
    second: Tensor
    turn: Tensor  # (B,) in frames of full rotation
    displacement: Tensor  # (B, 2) ahead and right of the second heading, in steps
    controls: Tensor  # (B, 3); of the second view, if the two are neighbours
    last: Tensor  # (B, 5): displacement and control that led to the first view
    neighbours: Tensor  # (B,) bool


def train_motion(
    data: Latents, episodes: list[Path], run: Run, *, camera: Camera, device: str = "cpu", seed: int = 0
) -> Motion:
    """Train on the frames of `episodes`, whose latents are the first of `data`; returns the EMA model."""
    torch.manual_seed(seed)
    model = Motion(*data.latents.shape[2:4]).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    frames = [load_episode(path).frames for path in episodes]

    def loss(model: nn.Module, step: int) -> dict[str, Tensor]:
        assert isinstance(model, Motion)
        pair = draw_pair(data, frames, camera, BATCH, np.random.default_rng((seed, step)))
        return motion_loss(model, Pair(*(x.to(device) for x in pair)), camera)

    ema = fit(run, model, optimizers=[optimizer], loss=loss)
    assert isinstance(ema, Motion)
    return ema


def motion_loss(model: Motion, pair: Pair, camera: Camera) -> dict[str, Tensor]:
    """Error of the displacement, and photometric error of the second view made from the first.

    View synthesis as supervision of depth: SfMLearner, arXiv 1704.07813, here with known motion.
    """
    features = model.features(camera, pair.latents, pair.turn)
    moved = model.displacement(features, pair.controls, pair.last)
    missed = ((moved - pair.displacement).norm(dim=1) * pair.neighbours).sum() / pair.neighbours.sum().clamp(min=1)
    depth = model.inverse_depth(features, pair.displacement)
    seen, inside = see_from(camera, pair.first, pair.turn, pair.displacement, depth)
    photometric = ((seen - pair.second).abs() * inside).sum() / inside.sum() / 3
    rough = (depth.diff(dim=1).abs().mean() + depth.diff(dim=2).abs().mean()) / 2
    still, shown = see_from(camera, pair.first, pair.turn, pair.displacement, torch.zeros_like(depth))
    flat = ((still - pair.second).abs() * shown).sum() / shown.sum() / 3
    loss = missed + 10 * photometric + 0.05 * rough
    return {"loss": loss, "displacement": missed.detach(), "photometric": photometric.detach(), "turn_only": flat}


def draw_pair(data: Latents, frames: list[np.ndarray], camera: Camera, batch: int, rng: np.random.Generator) -> Pair:
    """Random views of the same episode, up to LONGEST_GAP frames apart, half of them neighbours."""
    episode = rng.integers(len(frames), size=batch)
    gap = np.where(rng.random(batch) < 0.5, 1, rng.integers(1, LONGEST_GAP + 1, size=batch))
    second = rng.integers(LONGEST_GAP + 1, data.latents.shape[1], size=batch)
    first = second - gap
    poses = [torch.from_numpy(data.poses[episode, frame]) for frame in (first - 1, first, second)]
    turn = -(poses[2][:, 2] - poses[1][:, 2]) / camera.turn
    latents = torch.from_numpy(np.asarray(data.latents[episode, first], np.float32))
    level = torch.from_numpy(rng.uniform(0, 0.3, (batch, 1, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(latents.shape, np.float32))
    first_view, second_view = (
        to_unit(np.stack([frames[e][t] for e, t in zip(episode, times, strict=True)])) for times in (first, second)
    )
    return Pair(
        latents + level * noise,
        first_view,
        second_view,
        turn,
        displacement_between(camera, poses[1], poses[2]),
        torch.from_numpy(data.controls[episode, second]),
        torch.cat(
            [displacement_between(camera, poses[0], poses[1]), torch.from_numpy(data.controls[episode, first])], 1
        ),
        torch.from_numpy(gap == 1),
    )
