"""Figures under flat keys: seeds are averaged before videos are, and differences are paired."""

import numpy as np
import pytest

from model.evaluation.figures import Figures, flattened
from model.evaluation.statistics import Interval, bootstrap


def filled() -> Figures:
    figures = Figures()
    for video, base in (("a", 10.0), ("b", 20.0), ("c", 33.0)):
        for seed in (-1.0, 1.0):
            figures.add_all("rgt.ours", {"psnr": base + seed + 2.0}, video=video)
        figures.add("rgt.recent.psnr", base, video=video)
    return figures


def test_seeds_of_a_video_are_averaged():
    figures = filled()
    assert figures.by_video("rgt.ours.psnr") == {"a": 12.0, "b": 22.0, "c": 35.0}
    assert figures.interval("rgt.ours.psnr") == bootstrap([12.0, 22.0, 35.0])
    assert "rgt.ours.psnr" in figures and "rgt.ours.ssim" not in figures


def test_differences_are_paired_by_video_and_so_are_narrow():
    figures = filled()
    figures.add("rgt.recent.psnr", 0.0, video="only here")
    assert figures.difference("rgt.ours.psnr", "rgt.recent.psnr") == Interval(2.0, 2.0, 2.0, 3)


def test_flat_keys_carry_the_interval_where_there_is_one():
    figures = filled()
    figures.add("cost.us", 7.0, video="bank")
    figures.add("rgt.novel", float("nan"), video="a")
    flat = figures.flat()
    low, high = flat["rgt.ours.psnr.low"], flat["rgt.ours.psnr.high"]
    assert low < flat["rgt.ours.psnr"] == 23.0 < high and flat["rgt.ours.psnr.videos"] == 3
    assert flat["cost.us"] == 7.0 and "cost.us.low" not in flat
    assert not any("novel" in key for key in flat)
    assert all(isinstance(value, int | float) and np.isfinite(value) for value in flat.values())


def test_values_are_rounded():
    assert flattened("k", Interval(1.23456789, 1, 2, 1)) == {"k": pytest.approx(1.23457, abs=1e-9)}
