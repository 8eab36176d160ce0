"""From figures per frame to figures with intervals: bootstrap over videos, drift by Eq. 7, slopes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SHARE = 0.15  # of a video that Eq. 7 compares at either end
_NUM_RESAMPLES = 4000


class Interval(NamedTuple):
    """A mean over videos with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    num: int  # videos


def bootstrap(values: Sequence[float] | np.ndarray, *, seed: int = 0) -> Interval:
    """Percentile bootstrap of the mean of one value per video; NaN values are videos without such frames."""
    kept = np.asarray(values, np.float64)
    kept = kept[~np.isnan(kept)]
    if not len(kept):
        return Interval(np.nan, np.nan, np.nan, 0)
    draws = np.random.default_rng(seed).integers(len(kept), size=(_NUM_RESAMPLES, len(kept)))
    low, high = np.percentile(kept[draws].mean(1), (2.5, 97.5))
    return Interval(float(kept.mean()), float(low), float(high), len(kept))


def drift_term(series: np.ndarray) -> float:
    """Eq. 7 of arXiv 2504.12626: |M(first 15 %) - M(last 15 %)|, here as a share of the first."""
    start, end = ends(series)
    return abs(end - start) / max(abs(start), 1e-9)


def ends(series: np.ndarray) -> tuple[float, float]:
    """Means of the first and of the last 15 % of the frames."""
    count = max(1, round(SHARE * len(series)))
    return float(series[:count].mean()), float(series[-count:].mean())


def stretch_means(series: np.ndarray, length: int) -> np.ndarray:
    """Means (T // length, n) of a series (T, n) over stretches of `length`; the last ends where the series does."""
    whole = len(series) // length * length
    return np.asarray(series[len(series) - whole :].reshape(-1, length, series.shape[1]).mean(1))


def slope(series: np.ndarray) -> float:
    """Least-squares slope per 100 frames."""
    if len(series) < 2:
        return 0.0
    return float(np.polyfit(np.arange(len(series)) / 100, series, 1)[0])
