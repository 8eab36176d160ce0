"""Strips and plots."""

import numpy as np
import pytest
from PIL import Image

from model.evaluation.pictures import binned, plot_lines, spaced, strip


def test_a_strip_shows_the_frames_asked_for_in_rows():
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.full((1, 16, 12, 3), 50, np.uint8)
    picture = np.asarray(strip({"ground truth": frames, "generated": 255 - frames}, [0, 3, 4]))
    assert picture.shape[0] == 32
    shown = picture[:, -36:]
    for column, time in enumerate((0, 3, 4)):
        assert (shown[:16, column * 12 : column * 12 + 12] == 50 * time).all()
        assert (shown[16:, column * 12 : column * 12 + 12] == 255 - 50 * time).all()


def test_times_are_spread_from_first_to_last():
    assert spaced(100, 4) == [0, 33, 66, 99]
    assert spaced(3, 3) == [0, 1, 2]


def test_bins_without_values_are_left_out():
    middles, means = binned(np.array([1.0, 2.0, 25.0]), np.array([10.0, 20.0, 7.0]), (0, 10, 20, 30))
    assert middles.tolist() == [5, 25] and means.tolist() == pytest.approx([15, 7])


def test_a_plot_is_drawn(tmp_path):
    path = tmp_path / "plot.png"
    plot_lines({"a": (np.arange(3), np.arange(3)), "b": (np.arange(3), np.ones(3))}, path, x="x", y="y", title="t")
    colours = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 50


def test_points_have_marks(tmp_path):
    curve = {"a": (np.arange(2), np.arange(2))}
    plot_lines(curve, tmp_path / "plain.png", x="x", y="y", title="t")
    plot_lines(curve, tmp_path / "marked.png", x="x", y="y", title="t", marks={"a": ["one", "two"]})
    plain, marked = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")) for name in ("plain", "marked"))
    assert (plain != marked).sum() > 100
