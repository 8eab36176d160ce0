"""Does a long rollout stay what it was: how frames look over time, Eq. 7 at either end, and motion beside it.

A frozen picture does not drift, so every figure comes with the motion of the same stretch.
"""

from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..rooms.world import Rooms
from .cases import decoded, encoded
from .forward import is_steady, unsteady_records
from .metrics import colour_mean, colour_spread, motion, sharpness
from .sets import environment
from .statistics import SHARE, drift_term, ends, stretch_means

LOOKS = ("sharpness", "mean", "spread", "motion")
COLLAPSE = (0.5, 2.0)  # the last 15 % of a run, as a share of the truth's looks, must stay within
_FRAMES_AT_ONCE = 32


def looks(frames: np.ndarray, before: np.ndarray) -> np.ndarray:
    """LOOKS (n, 4) of frames (n, H, W, 3), of which `before` (H, W, 3) precedes the first."""
    moved = motion(np.concatenate([before[None], frames]))
    return np.stack([sharpness(frames), colour_mean(frames), colour_spread(frames), moved], 1)


def drifting(shown: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Eq. 7 of each look of a run (T, 4), beside that of the truth (T', 4) under the same controls.

    `collapsed` is 1 if the end of the run has left COLLAPSE in sharpness, spread or motion.
    """
    figures = {name: drift_term(shown[:, i]) for i, name in enumerate(LOOKS[:3])}
    figures |= {f"{name}_truth": drift_term(truth[:, i]) for i, name in enumerate(LOOKS[:3])}
    figures["motion_ratio"] = float(shown[:, 3].mean() / truth[:, 3].mean())
    held = [ends(shown[:, i])[1] / max(float(truth[:, i].mean()), 1e-6) for i in (0, 2, 3)]
    figures["collapsed"] = float(not all(COLLAPSE[0] <= ratio <= COLLAPSE[1] for ratio in held))
    return figures


def steadiness(shown: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> list[dict[str, float]]:
    """Whether runs (T, 4) end as walks of the truth do, which one walk alone cannot say: rooms differ too much.

    `unsteady` is 1 if the last 15 % of a run lie outside of what all stretches as long of all true walks (T, 4) look
    like. `unsteady_truth` says the same of its own true walk by the others, `collapsed_truth` is `drifting`'s
    `collapsed` of a true walk beside that of the run: what a perfect world of other rooms would come to.
    """
    stretches = [_stretches(walk) for walk in truth]
    everything, outside, rows = np.concatenate(stretches), unsteady_records(stretches), []
    for i, (run, walk) in enumerate(zip(shown, truth, strict=True)):
        row = {"unsteady": float(not is_steady(_stretches(run)[-1], everything))}
        if outside:
            row["unsteady_truth"] = float(outside[i])
            row["collapsed_truth"] = drifting(truth[i - 1], walk)["collapsed"]
        rows.append(row)
    return rows


def _stretches(looked: np.ndarray) -> np.ndarray:
    """Means (n, 4) of `looked` (T, 4) over stretches of 15 %, the last of which is the end."""
    return stretch_means(looked, max(1, round(SHARE * len(looked))))


def pooled_drift(runs: Sequence[np.ndarray]) -> dict[str, float]:
    """Eq. 7 of the mean over runs (T, 4) of each look: what drifts in all of them, whatever rooms they pass.

    One run's own term is mostly the rooms it happens to be in at either end, for the truth too.
    """
    mean = np.mean(runs, axis=0)
    return {name: drift_term(mean[:, i]) for i, name in enumerate(LOOKS[:3])}


class Walk(NamedTuple):
    """What there was to see."""

    start: np.ndarray  # (H, W, 3) uint8: the first frame, as rendered
    looks: np.ndarray  # (T, 4) of the frames after it
    kept: np.ndarray  # (n, H, W, 3) uint8: some of these frames


def true_walk(model: Rooms, controls: np.ndarray, *, seed: int, keep: Container[int]) -> Walk:
    """Walk a floor plan by `controls` (T, 3) and look at it, keeping the frames at the times in `keep`.

    The frames are seen through the VAE, as generated ones are.
    """
    parts = _walked(controls, seed=seed, size=model.spec.frame_shape[0])
    first = next(parts)
    before, rows, kept = decoded(model, encoded(model, first))[0], list[np.ndarray](), list[np.ndarray]()
    for frames in parts:
        shown = decoded(model, encoded(model, frames))
        kept += [frame for now, frame in enumerate(shown, len(rows) * _FRAMES_AT_ONCE) if now in keep]
        rows.append(looks(shown, before))
        before = shown[-1]
    return Walk(first[0], np.concatenate(rows), np.stack(kept))


def _walked(controls: np.ndarray, *, seed: int, size: int) -> Iterator[np.ndarray]:
    """The first frame, then those that follow, a few at a time."""
    env = environment(size)
    yield env.reset(seed=seed)[0][None].copy()
    for i in range(0, len(controls), _FRAMES_AT_ONCE):
        yield np.stack([env.step(control)[0] for control in controls[i : i + _FRAMES_AT_ONCE]])
