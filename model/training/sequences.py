"""Training sequences of `rooms`: clips of recorded episodes, and what memory would recall for them.

Legend: B sequences, L targets of each, R recalled frames, C x h x w one latent.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .latents import Latents

RECENT = 19  # 16 at k4, 2 at k2, 1 at k1
RECALLED = 5  # 4 at s2, 1 at s1


@dataclass(frozen=True, slots=True)
class Drawing:
    """What a batch is made of."""

    batch: int = 4
    targets: int = 24
    recall_dropout: float = 0.1
    strides: tuple[int, ...] = (1,)  # recorded frames from one frame of a sequence to its next, drawn evenly


class Episode(NamedTuple):
    """One recorded episode, or every so manieth frame of it."""

    latents: np.ndarray  # (T, C, h, w)
    depths: np.ndarray  # (T, n, n)
    controls: np.ndarray  # (T, A): the sum of those that lead from the frame before
    poses: np.ndarray  # (T, 3)


class Batch(NamedTuple):
    """Sequences whose first RECENT frames only serve as context."""

    clip: Tensor  # (B, RECENT + L, C, h, w)
    depths: Tensor  # (B, RECENT + L, n, n)
    controls: Tensor  # (B, RECENT + L, A), each leading to its frame
    poses: Tensor  # (B, RECENT + L, 3)
    frames: Tensor  # (B, RECENT + L): index in the episode at its stride, negative before its start
    memory: Tensor  # (B, 1 + RECALLED, C, h, w): start, then recalled
    memory_depths: Tensor  # (B, 1 + RECALLED, n, n)
    memory_poses: Tensor  # (B, 1 + RECALLED, 3)
    memory_frames: Tensor  # (B, 1 + RECALLED): index in the episode at its stride
    memory_valid: Tensor  # (B, 1 + RECALLED)
    episodes: Tensor  # (B,)
    strides: Tensor  # (B,)


def episode_of(data: Latents, index: int, stride: int) -> Episode:
    """Every `stride`th frame of an episode: a faster walk, of which every frame shows more that is new."""
    latents, depths, controls, poses = (part[index] for part in data)
    summed = np.add.reduceat(controls, np.r_[0, 1 : len(controls) : stride])
    taken = Episode(latents[::stride], depths[::stride], summed, poses[::stride])
    return taken._replace(controls=summed[: len(taken.poses)])


def draw(data: Latents, drawing: Drawing, rng: np.random.Generator) -> Batch:
    """A random batch; recalled frames are chosen by pose for what the targets will see, as at play time.

    Strides at which an episode is too short for the targets are left out.
    """
    span, length = np.arange(-RECENT, drawing.targets), data.latents.shape[1]
    strides = [stride for stride in drawing.strides if (length - 1) // stride >= drawing.targets] or [1]
    picks = []
    for _ in range(drawing.batch):
        e, stride = int(rng.integers(len(data.latents))), int(rng.choice(strides))
        episode = episode_of(data, e, stride)
        frames = len(episode.poses)
        first = 1 if rng.random() < 0.05 else int(rng.integers(1, frames - drawing.targets + 1))
        index = first + span
        inside = np.clip(index, 0, frames - 1)
        start = 0 if rng.random() < 0.7 else int(rng.integers(frames))
        recalled, valid = recall_for_training(episode.poses, first, drawing, rng)
        memory = np.concatenate([[start], recalled])
        poses = episode.poses[memory].copy()
        poses[1:] += rng.normal(0, 1, 3) * (0.1, 0.1, 0.01) * rng.random() ** 3  # as dead reckoning drifts
        picks.append(
            (
                episode.latents[inside],
                episode.depths[inside],
                episode.controls[inside],
                episode.poses[inside],
                index,
                episode.latents[memory],
                episode.depths[memory],
                poses,
                memory,
                np.concatenate([[True], valid]),
                np.int64(e),
                np.int64(stride),
            )
        )
    stacked = [torch.from_numpy(np.stack(column)) for column in zip(*picks, strict=True)]
    return Batch(*(x.float() if x.is_floating_point() else x for x in stacked))


def recall_for_training(
    poses: np.ndarray, first: int, drawing: Drawing, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of the episode, outside the clip, that look most like what two or three of the targets see.

    Returns indices (RECALLED,) and validity (RECALLED,); the last slot, of full resolution, is the best.
    """
    frames = np.arange(len(poses))
    allowed = (frames < first - RECENT // 2) | (frames >= first + drawing.targets)
    if not allowed.any() or rng.random() < drawing.recall_dropout:
        return np.zeros(RECALLED, np.int64), np.zeros(RECALLED, bool)
    times = first + rng.integers(0, drawing.targets, RECALLED)
    chosen: list[int] = []
    for time in times:
        away = np.linalg.norm(poses[:, :2] - poses[time, :2], axis=1) / 1.5
        angle = np.abs((poses[:, 2] - poses[time, 2] + np.pi) % (2 * np.pi) - np.pi) / np.radians(35)
        cost = away + angle + rng.gumbel(0, 0.15, len(poses))
        cost[~allowed] = np.inf
        for taken in chosen:
            cost[max(0, taken - 4) : taken + 5] += 1.0
        chosen.append(int(cost.argmin()))
    return np.array(chosen[::-1]), np.ones(RECALLED, bool)


def corrupt(clip: Tensor, limit: float, generator: torch.Generator) -> Tensor:
    """Noise on the history, of one level for each sequence, for half of the sequences."""
    level = limit * (2 * torch.rand(len(clip), generator=generator, device=clip.device) - 1).clamp(min=0)
    return clip + level.view(-1, 1, 1, 1, 1) * noise_like(clip, generator)


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device)
