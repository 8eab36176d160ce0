"""How near frames are to a reference, and what a video looks like by itself.

Frames are (n, H, W, 3) uint8; every metric gives one float64 per frame unless it says otherwise.
"""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

MAX_PSNR = 48.13  # dB: an error of one grey level; more is rounding, and infinity has no mean
_FRAMES_AT_ONCE = 64
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class MetricUnavailableError(RuntimeError):
    """A metric whose packages or weights are not on this machine."""


def psnr(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, at most MAX_PSNR."""

    def per_frame(a: Tensor, b: Tensor) -> Tensor:
        return peak_signal_noise_ratio(a, b, data_range=1.0, dim=(1, 2, 3), reduction="none")

    return _paired(per_frame, frames, reference).clip(max=MAX_PSNR)


def ssim(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Structural similarity with torchmetrics' Gaussian window."""

    def per_frame(a: Tensor, b: Tensor) -> Tensor:
        similarity = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
        assert isinstance(similarity, Tensor), "it is a pair only if the full image is asked for"
        return similarity.reshape(-1)

    return _paired(per_frame, frames, reference)


def lpips(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """LPIPS with AlexNet, whose weights torchvision downloads; raises MetricUnavailableError without it."""
    _needs("torchvision")
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

    def per_frame(a: Tensor, b: Tensor) -> Tensor:
        distance = learned_perceptual_image_patch_similarity(a, b, net_type="alex", reduction="none", normalize=True)
        return distance.reshape(-1)

    return _paired(per_frame, frames, reference)


def fid(frames: np.ndarray, reference: np.ndarray) -> float:
    """Fréchet Inception distance between two sets of frames; raises MetricUnavailableError without torch-fidelity."""
    _needs("torch_fidelity")
    from torchmetrics.image.fid import FrechetInceptionDistance

    distance = FrechetInceptionDistance(normalize=True)
    for part, is_real in ((frames, False), (reference, True)):
        for first in range(0, len(part), _FRAMES_AT_ONCE):
            distance.update(_unit(part[first : first + _FRAMES_AT_ONCE]), real=is_real)
    return float(distance.compute())


def luma(frames: np.ndarray) -> np.ndarray:
    """Brightness (..., H, W) float32 of frames (..., H, W, 3), in grey levels."""
    return np.asarray(frames @ _LUMA)


def sharpness(frames: np.ndarray) -> np.ndarray:
    """Variance of the Laplacian of the luma, in grey levels squared: low where a picture is blurred."""
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    return F.conv2d(torch.from_numpy(luma(frames))[:, None], kernel).flatten(1).var(1).double().numpy()


def colour_mean(frames: np.ndarray) -> np.ndarray:
    """Mean over pixels and channels, in grey levels."""
    return np.asarray(frames.mean((1, 2, 3), dtype=np.float64))


def colour_spread(frames: np.ndarray) -> np.ndarray:
    """Standard deviation over pixels, mean over channels, in grey levels."""
    return np.asarray(frames.std((1, 2), dtype=np.float64).mean(1))


def motion(frames: np.ndarray) -> np.ndarray:
    """Mean absolute difference to the frame before, in grey levels: (n - 1,). A frozen picture has none."""
    steps = zip(frames[1:].astype(np.int16), frames[:-1], strict=True)
    return np.array([np.abs(after - before).mean() for after, before in steps])


def _paired(measure: Callable[[Tensor, Tensor], Tensor], frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    assert frames.shape == reference.shape
    parts = [
        measure(_unit(frames[i : i + _FRAMES_AT_ONCE]), _unit(reference[i : i + _FRAMES_AT_ONCE]))
        for i in range(0, len(frames), _FRAMES_AT_ONCE)
    ]
    return torch.cat(parts).double().numpy()


def _unit(frames: np.ndarray) -> Tensor:
    """(n, H, W, 3) uint8 to (n, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float().div(255)


def _needs(package: str) -> None:
    if find_spec(package) is None:
        raise MetricUnavailableError(f"expected the package {package} for this metric: pip install torchmetrics[image]")
