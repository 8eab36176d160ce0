"""Whether frames look like rooms, which neither sharpness nor colours tell: caves have both.

Features are what the depth network makes of a frame before it says how far things are: where floors, walls and edges
run. Two sets of frames are held against each other by the Fréchet distance (as FID, arXiv 1706.08500), in so few
dimensions that some hundred frames will do. And rooms are upright, which tells from a few frames already (`bent`).

Legend: n frames, d features.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch.nn import functional as F

from ..rooms.profile import depths_of, profile_of
from ..rooms.world import Rooms
from .programs import autopilot
from .sets import environment

_CELLS = 2  # high and wide, over which features are means
_AXES = 16  # along which glimpses differ most
_FRAMES_AT_ONCE = 32
_WALK = 40  # frames after which a glimpse is taken: sooner, one stands where worlds begin


class Glimpses:
    """True frames, each of another floor plan, that others are held against."""

    def __init__(self, model: Rooms, frames: np.ndarray) -> None:
        """`frames` (n, H, W, 3) uint8, more than a few."""
        self._model = model
        features = _features(model, frames)
        self._mean, self._scale = features.mean(0), features.std(0) + 1e-6
        standard = (features - self._mean) / self._scale
        self._axes = np.linalg.svd(standard, full_matrices=False)[2][:_AXES].T
        self._seen = standard @ self._axes

    def unlikeness(self, frames: np.ndarray) -> float:
        """How far `frames` (m, H, W, 3) uint8 are from the glimpses, of whose variance: 0 if they are alike."""
        seen = (_features(self._model, frames) - self._mean) / self._scale @ self._axes
        return frechet(seen, self._seen) / float(self._seen.var(0).sum())


@torch.inference_mode()
def bent(model: Rooms, frames: np.ndarray) -> float:
    """How far the depth read from `frames` (n, H, W, 3) uint8 is from that of a floor, upright walls and a ceiling.

    The mean of |log| of their ratio: 0.1 if it is a tenth off. Things that stand about count, waves in walls do not.
    """
    off, edge = [], model.camera.edge
    for latents in _encoded(model, frames):
        read = model.depth(latents)
        upright = depths_of(profile_of(read, edge=edge), edge=edge, eye=model.camera.height)
        off.append((read / upright).log().abs().mean((1, 2)))
    return float(torch.cat(off).mean())


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """Squared Fréchet distance of two sets (n, d) and (m, d), each taken to be normally distributed."""
    covariances = np.cov(one.T), np.cov(other.T)
    roots = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(min=0))
    means = np.square(one.mean(0) - other.mean(0)).sum()
    return float(means + sum(np.trace(covariance) for covariance in covariances) - 2 * roots.sum())


def glimpses(num: int, *, size: int, first_seed: int) -> np.ndarray:
    """A true frame of each of `num` floor plans (num, size, size, 3) uint8, seen on autopilot."""
    env, frames = environment(size), []
    for seed in range(first_seed, first_seed + num):
        env.reset(seed=seed)
        *_, last = (env.step(control)[0] for control in islice(autopilot(np.random.default_rng(seed)), _WALK))
        frames.append(last.copy())
    return np.stack(frames)


def _encoded(model: Rooms, frames: np.ndarray) -> Iterator[torch.Tensor]:
    """Latents (up to _FRAMES_AT_ONCE, C, h, w) of `frames`, as the depth network takes them."""
    for first in range(0, len(frames), _FRAMES_AT_ONCE):
        latents = torch.from_numpy(model.encode(frames[first : first + _FRAMES_AT_ONCE]))
        yield latents.to(model.device, model.dtype)


@torch.inference_mode()
def _features(model: Rooms, frames: np.ndarray) -> np.ndarray:
    """(n, d) float64."""
    rows = []
    for latents in _encoded(model, frames):
        seen = model.depth.trunk(model.depth.look(latents))
        rows.append(F.adaptive_avg_pool2d(seen.double(), _CELLS).flatten(1).cpu())
    return torch.cat(rows).numpy()
