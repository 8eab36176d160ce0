"""What a session would have kept of recorded frames, had it shown them itself: its own depth and its own poses."""

from collections.abc import Sequence

import numpy as np
import torch

from ..rooms.camera import relative
from ..rooms.state import Preparation, RoomsState
from ..rooms.world import Rooms
from ..world_model import History
from .rollout import Record, history_at

_DOUBT = 1.15  # by how much another explanation must be better than that the command was followed


@torch.inference_mode()
def reckoned(model: Rooms, latents: np.ndarray, controls: np.ndarray) -> list[Record]:
    """What a session keeps of each of V videos: latents with its own depth, and poses from the start.

    Of `latents` (V, T, C, h, w) only the pictures count; `controls` (V, T, A). Where the model and the
    command disagree on how far a frame led, the picture decides.
    """
    nowhere = np.zeros((latents.shape[1], 3), np.float32)
    records = [Record(x.copy(), steer, nowhere.copy()) for x, steer in zip(latents, controls, strict=True)]
    states = [model.open(seed=0) for _ in records]
    for now in range(1, latents.shape[1]):
        histories = [history_at(model.spec, record, now, ()) for record in records]
        pictures = torch.from_numpy(latents[:, now].astype(np.float32)).to(model.device)
        prepared = _explained(model, states, controls[:, now : now + 1], histories, pictures)
        for record, section in zip(records, model.commit(states, prepared, pictures), strict=True):
            record.latents[now], record.poses[now] = section.latents[0], section.poses[0]
    return records


def _explained(
    model: Rooms,
    states: Sequence[RoomsState],
    controls: np.ndarray,
    histories: Sequence[History],
    pictures: torch.Tensor,
) -> Preparation:
    """Of the whole way, what the model expects and no way, what comes nearest to `pictures` (V, C, h, w).

    Where the picture hardly tells, in front of a bare wall, it is the whole way.
    """
    whole = torch.from_numpy(controls[:, -1, :2]).to(model.device)
    guesses = [model.prepare(states, list(controls), histories, moved=moved) for moved in (whole, None, 0 * whole)]
    missed = torch.stack([_missed(guess, pictures) for guess in guesses])
    missed[1:] *= _DOUBT
    best = missed.argmin(0)
    rows = torch.arange(len(best), device=best.device)
    return Preparation(*(torch.stack(parts)[best, rows] for parts in zip(*guesses, strict=True)))


def _missed(guess: Preparation, pictures: torch.Tensor) -> torch.Tensor:
    """Mean square error (V,) of what the frame before shows of `pictures` (V, C, h, w)."""
    share = guess.shares[:, 0]
    error = (guess.base - pictures).square().mean(1)
    return (error * share).sum((1, 2)) / share.sum((1, 2)).clamp(min=1)


def from_start(poses: np.ndarray) -> np.ndarray:
    """Poses (T, 3) as a session counts them: float32, the first is zero."""
    seen = torch.from_numpy(np.asarray(poses, np.float64))
    return relative(seen, seen[0]).float().numpy()
