"""Does a place stay: R-GT against ground truth, R-CLOSE first against last, R-LOOP out against back.

R-GT (WorldMem, LoopNav): context from the record, then generated frames under the recorded controls,
scored against the same frames decoded from their own latents and against the raw ones; frames that
revisit the context and novel ones apart. R-CLOSE (MemoryTax): the last generated frame against the context
frame with the same pose. R-LOOP (MIND's GSC): the way back reversed against the way out, no ground truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..rooms.world import Rooms
from ..world_model import WorldModel
from .cases import Case, Method, Poses, decoded, records
from .metrics import lpips, psnr, ssim
from .rollout import rollout

# V videos · M generated frames


@dataclass(frozen=True, slots=True)
class Replay:
    """What one method made of a set's videos, with one seed."""

    frames: np.ndarray  # (V, M, H, W, 3) uint8
    poses: np.ndarray  # (V, M, 3) float32, as the model believes


def replay(model: WorldModel, cases: Sequence[Case], method: Method, *, poses: Poses, seed: int = 0) -> Replay:
    """Generate what follows the context of each case; `cases` are of one set."""
    first, count = cases[0].first, len(cases[0].reference)
    start = records(cases, poses, is_foreign=method.is_foreign)
    done, frames = rollout(model, start, first=first, frames=count, recall=method.make(), seed=seed)
    return Replay(frames, np.stack([record.poses[first:] for record in done]))


def copied(model: Rooms, case: Case) -> np.ndarray:
    """The copy baseline: for each frame, the context frame whose true pose is nearest. (M, H, W, 3)."""
    first, poses = case.first, case.poses["true"]
    apart = poses[first:, None] - poses[None, :first]
    turned = np.abs((apart[..., 2] + np.pi) % (2 * np.pi) - np.pi)
    nearest = (np.hypot(apart[..., 0], apart[..., 1]) + turned / np.radians(30)).argmin(1)
    return decoded(model, case.latents[nearest])


def frame_scores(case: Case, frames: np.ndarray, *, perceptual: bool = False) -> dict[str, np.ndarray]:
    """Scores (M,) of frames (M, H, W, 3) against the reference and, `_raw`, against the ground truth.

    `perceptual` adds LPIPS, for machines that can load its network.
    """
    scores = {
        "psnr": psnr(frames, case.reference),
        "ssim": ssim(frames, case.reference),
        "psnr_raw": psnr(frames, case.truth),
        "ssim_raw": ssim(frames, case.truth),
    }
    return scores | {"lpips": lpips(frames, case.reference)} if perceptual else scores


def by_split(case: Case, scores: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over revisit and over novel frames, NaN where a video has none: `revisit.psnr`, `novel.ssim`, ..."""
    splits = {"revisit": case.split.is_revisit, "novel": case.split.is_novel}
    return {
        f"{split}.{metric}": float(values[mask].mean()) if mask.any() else float("nan")
        for split, mask in splits.items()
        for metric, values in scores.items()
    }


def closing(model: Rooms, case: Case, frames: np.ndarray) -> dict[str, float]:
    """The last frame of (M, H, W, 3) against the context frame with the same pose."""
    assert case.frozen.home is not None
    home = decoded(model, case.latents[case.frozen.home][None])
    return {"psnr": float(psnr(frames[-1:], home)[0]), "ssim": float(ssim(frames[-1:], home)[0])}


def looping(model: Rooms, case: Case, frames: np.ndarray) -> dict[str, float]:
    """A mirrored path (M, H, W, 3), M even: the way back reversed against the way out, frame by frame.

    `matched` compares each frame of the way back with the most similar one of the way out instead (MAG-Bench).
    """
    half = len(frames) // 2
    out = np.concatenate([decoded(model, case.latents[case.first - 1][None]), frames[: half - 1]])
    back = frames[half:][::-1]
    matched = [psnr(np.repeat(frame[None], half, 0), out).max() for frame in back]
    return {
        "psnr": float(psnr(back, out).mean()),
        "ssim": float(ssim(back, out).mean()),
        "matched": float(np.mean(matched)),
    }
