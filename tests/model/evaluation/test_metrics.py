"""Metrics against closed forms and against torchmetrics itself."""

import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from model.evaluation.metrics import (
    MAX_PSNR,
    MetricUnavailableError,
    colour_mean,
    colour_spread,
    fid,
    lpips,
    motion,
    psnr,
    sharpness,
    ssim,
)


def noise(num: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, 24, 20, 3), np.uint8)


def flat(value: int) -> np.ndarray:
    return np.full((1, 24, 20, 3), value, np.uint8)


def unit(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames.transpose(0, 3, 1, 2).copy()).float() / 255


@given(st.integers(0, 255), st.integers(0, 255))
def test_flat_frames_have_closed_forms(a, b):
    error = abs(a - b)
    expected = min(20 * math.log10(255 / error), MAX_PSNR) if error else MAX_PSNR
    assert psnr(flat(a), flat(b))[0] == pytest.approx(expected, abs=1e-3)
    x, y = a / 255, b / 255
    assert ssim(flat(a), flat(b))[0] == pytest.approx(
        (2 * x * y + 1e-4) / (x * x + y * y + 1e-4), abs=5e-3
    )  # float32 variances


def test_frames_are_scored_one_by_one_as_torchmetrics_scores_them():
    frames, reference = noise(67, 0), noise(67, 1)
    frames[3:9] = reference[3:9] // 2 + frames[3:9] // 2
    for i, (ours, alike) in enumerate(zip(psnr(frames, reference), ssim(frames, reference), strict=True)):
        pair = unit(frames[i : i + 1]), unit(reference[i : i + 1])
        assert ours == pytest.approx(float(PeakSignalNoiseRatio(data_range=1.0)(*pair)), abs=1e-4)
        assert alike == pytest.approx(float(StructuralSimilarityIndexMeasure(data_range=1.0)(*pair)), abs=1e-4)


def test_sharpness_is_the_variance_of_the_laplacian():
    board = np.indices((24, 20)).sum(0) % 2 * 200
    frames = np.repeat(board[None, :, :, None], 3, 3).astype(np.uint8)
    inner = np.where(board[1:-1, 1:-1] == 200, -800.0, 800.0)  # every neighbour is the other colour
    assert sharpness(frames)[0] == pytest.approx(inner.var(ddof=1), rel=1e-4)
    assert sharpness(flat(90))[0] == pytest.approx(0, abs=1e-6)


def test_colour_is_mean_and_spread():
    frames = np.concatenate([flat(10), flat(30)], 1)
    assert colour_mean(frames)[0] == 20 and colour_spread(frames)[0] == 10
    tinted = flat(0) + np.array([0, 90, 180], np.uint8)
    assert colour_mean(tinted)[0] == 90 and colour_spread(tinted)[0] == 0


def test_motion_is_the_mean_change_and_a_frozen_picture_has_none():
    frames = np.concatenate([flat(7), flat(7), flat(250)])
    assert motion(frames).tolist() == [0.0, 243.0]


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is there")
def test_lpips_says_what_it_lacks():
    with pytest.raises(MetricUnavailableError, match="torchvision"):
        lpips(noise(1, 0), noise(1, 1))


@pytest.mark.skipif(find_spec("torch_fidelity") is not None, reason="torch-fidelity is there")
def test_fid_says_what_it_lacks():
    with pytest.raises(MetricUnavailableError, match="torch_fidelity"):
        fid(noise(1, 0), noise(1, 1))
