"""How well the next frame is predicted, and how 64 frames hold up, from recorded context under recorded controls."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..rooms.camera import Camera
from ..rooms.world import Rooms
from .cases import Case, Method, Poses, decoded
from .metrics import colour_mean, colour_spread, psnr, sharpness
from .rollout import history_at, resumed, sample
from .statistics import stretch_means

# V videos · M frames to generate

WINDOW = 16  # frames over which a run's looks are averaged
_MOVES = 0.25  # of full speed: from here on the view counts as moving


class OneStep(NamedTuple):
    """Per predicted frame of one video."""

    psnr: np.ndarray  # (n,) of the prediction, against the reference
    copy: np.ndarray  # (n,) of the frame before
    is_moving: np.ndarray  # (n,) bool


def one_step(
    model: Rooms, cases: Sequence[Case], method: Method, *, poses: Poses, every: int = 4, seed: int = 0
) -> list[OneStep]:
    """Predict every `every`-th of the M frames from recorded history alone."""
    whole, recall = [case.whole_record(poses) for case in cases], method.make()
    times = range(cases[0].first, cases[0].frozen.length, every)
    shown: list[list[np.ndarray]] = [[] for _ in cases]
    for now in times:
        for start in range(0, len(whole), model.spec.max_batch):
            batch = whole[start : start + model.spec.max_batch]
            states: list[Any] = [resumed(model, record, now, seed=seed + start + i) for i, record in enumerate(batch)]
            histories = [history_at(model.spec, record, now, recall(record, now)) for record in batch]
            sections = sample(model, states, [record.controls[now : now + 1] for record in batch], histories)
            for i, frame in enumerate(model.decode(states, sections)):
                shown[start + i].append(frame[0])
    return [_scored(model, case, np.stack(frames), np.array(times)) for case, frames in zip(cases, shown, strict=True)]


def looks_at_times(frames: np.ndarray) -> np.ndarray:
    """How sharp (log2), light and varied each WINDOW of frames (M, H, W, 3) is on average: (M // WINDOW, 3)."""
    looks = np.stack([np.log2(sharpness(frames) + 1e-6), colour_mean(frames), colour_spread(frames)], 1)
    return stretch_means(looks, WINDOW)


def is_steady(looks: np.ndarray, real: np.ndarray) -> bool:
    """Whether `looks` (3,) are in the range of those of `real` (n, 3) windows of recorded frames.

    A run that leaves the recorded places ends somewhere else, so its end cannot be held against the end of its
    own record: of two recorded walks, one is more than twice as sharp as the other in two cases of three.
    """
    return bool(((real.min(0) <= looks) & (looks <= real.max(0))).all())


def unsteady_records(real: Sequence[np.ndarray]) -> list[bool]:
    """Whether each record (n, k) ends outside of what all others look like: what a perfect world would come to.

    Nothing for a record that is alone.
    """
    others = [np.concatenate([*real[:i], *real[i + 1 :]]) for i in range(len(real)) if len(real) > 1]
    return [not is_steady(one[-1], rest) for one, rest in zip(real, others, strict=False)]


def moving_frames(camera: Camera, poses: np.ndarray) -> np.ndarray:
    """Which frames (T - 1,) of `poses` (T, 3) differ in view from the one before, by a quarter of full speed."""
    steps = np.diff(poses, axis=0)
    return np.asarray(
        (np.hypot(steps[:, 0], steps[:, 1]) >= _MOVES * camera.step) | (np.abs(steps[:, 2]) >= _MOVES * camera.turn)
    )


def _scored(model: Rooms, case: Case, frames: np.ndarray, times: np.ndarray) -> OneStep:
    reference, before = case.reference[times - case.first], decoded(model, case.latents[times - 1])
    is_moving = moving_frames(Camera(), case.video.poses)[times - 1]
    return OneStep(psnr(frames, reference), psnr(before, reference), is_moving)
