"""Train the geometry of `rooms` on recorded depth maps and poses: `Depth` and `Reach`, both in a few minutes."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..rooms.camera import Camera, displacement_between, relative
from ..rooms.depth import Depth, Reach
from ..rooms.geometry import ground_map
from .latents import Latents
from .loop import Run, fit

BATCH = 64
SOURCES = (1, 8, 15, None, None)  # frames ago; None: any frame of the episode


class Views(NamedTuple):
    """Targets and the views that their sessions had before: K sources each, the first one the frame before."""

    pose: Tensor  # (B, 3)
    source_depths: Tensor  # (B, K, n, n), as wrong as a model's own
    source_poses: Tensor  # (B, K, 3)
    valid: Tensor  # (B, K)
    controls: Tensor  # (B, A) that led to the target
    last_controls: Tensor  # (B, A) that led to the frame before
    last_pose: Tensor  # (B, 3) two frames before


def train_depth(data: Latents, run: Run, *, device: str = "cpu", seed: int = 0) -> Depth:
    """Train from scratch or the run's checkpoint; returns the EMA model."""
    torch.manual_seed(seed)
    model = Depth(data.latents.shape[2]).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(model: nn.Module, step: int) -> dict[str, Tensor]:
        assert isinstance(model, Depth)
        return depth_loss(model, *(x.to(device) for x in draw_frames(data, np.random.default_rng((seed, step)))))

    ema = fit(run, model, optimizers=[torch.optim.AdamW(model.parameters(), lr=1e-3)], loss=loss)
    assert isinstance(ema, Depth)
    return ema


def depth_loss(model: Depth, latents: Tensor, depths: Tensor) -> dict[str, Tensor]:
    """Mean error of the inverse depth (B, n, n) of `latents` (B, C, h, w)."""
    with torch.autocast(latents.device.type, torch.bfloat16):
        read = model(latents.contiguous(memory_format=torch.channels_last))
    spread = (depths - depths.mean((1, 2), keepdim=True)).abs().mean().detach()
    return {"loss": (read - depths).abs().mean(), "spread": spread}


def draw_frames(data: Latents, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Latents of random frames, half of them as noisy as generated ones are, and their inverse depth."""
    e, t = rng.integers(len(data.latents), size=BATCH), rng.integers(data.latents.shape[1], size=BATCH)
    level = np.maximum(0, rng.uniform(-0.3, 0.3, (BATCH, 1, 1, 1)))
    latents = np.asarray(data.latents[e, t], np.float32)
    return _tensor(latents + level * rng.standard_normal(latents.shape)), _tensor(data.depths[e, t])


def train_reach(data: Latents, run: Run, *, camera: Camera, device: str = "cpu", seed: int = 0) -> Reach:
    """Train from scratch or the run's checkpoint; returns the EMA model."""
    torch.manual_seed(seed)
    model = Reach().to(device)

    def loss(model: nn.Module, step: int) -> dict[str, Tensor]:
        assert isinstance(model, Reach)
        rng = np.random.default_rng((seed, step))
        return reach_loss(model, Views(*(x.to(device) for x in draw_views(data, rng))), camera)

    ema = fit(run, model, optimizers=[torch.optim.AdamW(model.parameters(), lr=1e-3)], loss=loss)
    assert isinstance(ema, Reach)
    return ema


def reach_loss(model: Reach, views: Views, camera: Camera) -> dict[str, Tensor]:
    """Distance (in steps) between where the camera went and where the network says that it goes."""
    before = views.source_poses[:, 0]
    moved = displacement_between(camera, before, views.pose)
    standing = torch.cat([before[:, :2], views.pose[:, 2:]], 1)
    poses = relative(views.source_poses, standing[:, None])
    ground = ground_map(poses, views.source_depths, views.valid, edge=camera.edge, eye=camera.height)
    last = displacement_between(camera, views.last_pose, standing)
    reached = model(ground, views.controls, torch.cat([last, views.last_controls], 1))
    error = (reached - moved).norm(dim=1)
    stopped = (views.controls[:, :2] - moved).norm(dim=1) > 0.05
    share = stopped.float()
    return {
        "loss": error.mean(),
        "stopped": (error.detach() * share).sum() / share.sum().clamp(min=1),
        "free": (error.detach() * (1 - share)).sum() / (1 - share).sum().clamp(min=1),
        "commanded": ((views.controls[:, :2] - moved).norm(dim=1) * share).sum() / share.sum().clamp(min=1),
    }


def draw_views(data: Latents, rng: np.random.Generator) -> Views:
    """Random targets, with sources whose depth is off by a few percent as a whole and from place to place."""
    episodes, frames = data.latents.shape[:2]
    e, t = rng.integers(episodes, size=BATCH), rng.integers(2, frames, size=BATCH)
    times = np.stack([rng.integers(frames, size=BATCH) if ago is None else t - ago for ago in SOURCES], 1)
    near = np.abs(times - t[:, None]) > 0
    valid = (times >= 0) & near
    times = np.clip(times, 0, frames - 1)
    depths = np.asarray(data.depths[e[:, None], times], np.float32)
    scale = 1 + 0.04 * rng.standard_normal((*times.shape, 1, 1)) * rng.random((BATCH, 1, 1, 1))
    coarse = np.repeat(np.repeat(rng.standard_normal((*times.shape, 8, 8)), 8, 2), 8, 3)
    depths = depths * (scale + 0.02 * coarse * rng.random((BATCH, 1, 1, 1))).astype(np.float32)
    poses = data.poses[e[:, None], times].copy()
    poses[:, 1:] += rng.standard_normal((BATCH, len(SOURCES) - 1, 3)).astype(np.float32) * (0.03, 0.03, 0.005)
    arrays = (
        data.poses[e, t], depths, poses, valid,
        data.controls[e, t], data.controls[e, t - 1], data.poses[e, t - 2],
    )  # fmt: skip
    return Views(*(_tensor(x) for x in arrays))


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array if array.dtype == bool else np.asarray(array, np.float32))
