"""Figures by flat keys, with intervals, and the runs that fill them.

A key is `protocol.set.poses.method.split.metric`, shortened where a part has one value only; `.low` and
`.high` beside it are the 95 % bootstrap interval over videos, `.videos` their number, where there are several.
The parts:

protocol  rgt, close, loop, step, forward, drift, autopilot, control, retrieval, cost, sets, bar
poses     true or reckoned: what the model is told of where the context frames were
method    off, recent, log, random, similar, hybrid, sequel, fov, oracle, ours, other, copy
split     revisit (a context frame older than the recent window shows half of it) or novel (none does)
metric    psnr, ssim: against the VAE's reconstruction; psnr_raw, ssim_raw: against the rendered frames
"""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from .statistics import Interval, bootstrap


class Figures:
    """Values per video under each key; the same video may be measured with several seeds."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, key: str, value: float, *, video: str) -> None:
        self._values[key][video].append(float(value))

    def add_all(self, prefix: str, values: Mapping[str, float], *, video: str) -> None:
        for name, value in values.items():
            self.add(f"{prefix}.{name}", value, video=video)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def keys(self) -> list[str]:
        return list(self._values)

    def by_video(self, key: str) -> dict[str, float]:
        """Means over seeds, by video."""
        return {video: float(np.mean(values)) for video, values in self._values[key].items()}

    def interval(self, key: str) -> Interval:
        return bootstrap(list(self.by_video(key).values()))

    def difference(self, key: str, other: str) -> Interval:
        """Paired over the videos that have both."""
        ours, theirs = self.by_video(key), self.by_video(other)
        return bootstrap([ours[video] - theirs[video] for video in ours if video in theirs])

    def flat(self) -> dict[str, float]:
        """Every figure with its interval, as `rewander eval --json` prints it."""
        out: dict[str, float] = {}
        for key in self._values:
            out |= flattened(key, self.interval(key))
        return out


def flattened(key: str, interval: Interval) -> dict[str, float]:
    """An interval under its keys; a figure without videos has none."""
    if not interval.num:
        return {}
    mean, low, high = (round(float(value), 5) for value in interval[:3])
    if interval.num == 1:
        return {key: mean}
    return {key: mean, f"{key}.low": low, f"{key}.high": high, f"{key}.videos": interval.num}
