"""The walks that drift is measured on: there and back, and what there is to say of a rollout of their last frames.

A walk retraces its way, so that both ends of a rollout see the same places: what Eq. 7 finds is then the model's drift
and not the rooms'. Poses are the recorded ones, since orders out of time's order know them beforehand.

Legend: V videos, S seeds, M generated frames, C x h x w one latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..rooms.camera import Camera
from ..rooms.world import Rooms
from .cases import decoded, encoded
from .drift import drifting, looks, pooled_drift
from .metrics import psnr
from .reckon import from_start
from .sets import SETS, Video, are_known, load_or_render
from .sight import Split, split_views
from .statistics import ends, slope

SET = "retrace"
SETTLED = 19  # frames after which a place that comes again has left every schedule's slots

Figures = dict[str, list[list[float]]]  # (S, V) of each name, or (S, 1) over all videos together


@dataclass(frozen=True, slots=True)
class Course:
    """One video, encoded, and what of it is to be generated: the last M frames."""

    video: Video
    latents: np.ndarray  # (T, C, h, w) float16
    poses: np.ndarray  # (T, 3) float32
    reference: np.ndarray  # (M, H, W, 3) uint8, through the autoencoder
    truth: np.ndarray  # (M, 4): LOOKS of the reference
    before: np.ndarray  # (H, W, 3): the frame before them
    split: Split
    is_known: bool  # bit for bit the published walk

    @property
    def first(self) -> int:
        return len(self.latents) - len(self.reference)


def courses(model: Rooms, folder: Path, *, videos: int, frames: int) -> list[Course]:
    """The last `frames` of some walks, rendered into `folder` where they are not there yet.

    Raises ValueError for more frames than a walk has after the slots are full.
    """
    frozen = SETS[SET]
    if not 1 <= frames <= frozen.length - 1 - SETTLED:
        raise ValueError(f"expected 1 to {frozen.length - 1 - SETTLED} frames, got {frames}")
    made, first = [], frozen.length - frames
    for number, video in enumerate(load_or_render(frozen, folder, videos=videos)):
        latents = encoded(model, video.frames)
        reference, before = decoded(model, latents[first:]), decoded(model, latents[first - 1][None])[0]
        split = split_views(Camera(), video.views, first=first, recent=SETTLED)
        poses, truth = from_start(video.poses), looks(reference, before)
        [is_known] = are_known(frozen, [video], first=number)
        made.append(Course(video, latents, poses, reference, truth, before, split, is_known))
    return made


def figures_of(found: Sequence[Course], shown: Sequence[np.ndarray], seeds: int) -> Figures:
    """Of what was generated for all videos with one seed, then with the next, (M, H, W, 3) each."""
    figures: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        runs = shown[seed * len(found) : (seed + 1) * len(found)]
        looked = [looks(frames, course.before) for frames, course in zip(runs, found, strict=True)]
        for name, value in pooled_drift(looked).items():
            figures.setdefault(f"pooled.{name}", []).append([value])
        per_video = [_scores(course, frames, look) for course, frames, look in zip(found, runs, looked, strict=True)]
        for name in per_video[0]:
            figures.setdefault(name, []).append([scores[name] for scores in per_video])
    return figures


def _scores(course: Course, frames: np.ndarray, looked: np.ndarray) -> dict[str, float]:
    """Of one rollout (M, H, W, 3).

    `psnr` is over all frames, `revisit` over those that the context showed, `own_revisit` between the model's own way
    back and out; `sharp_at_start` and `sharp_at_end` are shares of the truth's sharpness in the first and last 15 %,
    since Eq. 7 says nothing of what is bad from the start; `known` is 1 for a published walk. Beside Eq. 7 and motion.
    """
    against = psnr(frames, course.reference)
    revisit = course.split.is_revisit
    start, end = (a / max(b, 1e-9) for a, b in zip(ends(looked[:, 0]), ends(course.truth[:, 0]), strict=True))
    scores = drifting(looked, course.truth) | {"sharp_at_start": start, "sharp_at_end": end}
    scores |= {"psnr": float(against.mean()), "psnr_slope": slope(against)}
    scores["revisit"] = float(against[revisit].mean()) if revisit.any() else float("nan")
    here = np.arange(course.first, len(course.latents))
    there = len(course.latents) - 1 - here  # the same place on the way out
    own = (there >= course.first) & (here - there > SETTLED)
    again = psnr(frames[own], frames[there[own] - course.first]) if own.any() else np.array([np.nan])
    return scores | {"own_revisit": float(again.mean()), "known": float(course.is_known)}
