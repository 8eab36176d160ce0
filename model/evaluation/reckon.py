"""What a session would have kept of recorded frames, had it shown them itself: its own depth and its own poses."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..rooms.camera import displacement_between, move, relative
from ..rooms.looks import unit
from ..rooms.state import Preparation, RoomsState
from ..rooms.views import Sources, composed, seen_from
from ..rooms.world import Rooms
from ..world_model import History
from .rollout import Record, history_at

# V videos · N ways that a frame may have led

SLIDES = 12  # directions of walls, spread evenly, along which a camera may have slid
_DOUBT = 1.15  # by how much another explanation must be better than that the command was followed


@torch.inference_mode()
def reckoned(model: Rooms, latents: np.ndarray, controls: np.ndarray) -> list[Record]:
    """What a session keeps of each of V videos: latents with its own depth, and poses from the start.

    Of `latents` (V, T, C, h, w) only the pictures count; `controls` (V, T, A). Where a frame may have led
    otherwise than commanded, the picture decides.
    """
    nowhere = np.zeros((latents.shape[1], 3), np.float32)
    records = [Record(x.copy(), steer, nowhere.copy()) for x, steer in zip(latents, controls, strict=True)]
    states = [model.open(seed=0) for _ in records]
    for now in range(1, latents.shape[1]):
        histories = [history_at(model.spec, record, now, ()) for record in records]
        prepared = _explained(model, states, controls[:, now : now + 1], histories, latents[:, now])
        pictures = torch.from_numpy(latents[:, now].astype(np.float32)).to(model.device)
        for record, section in zip(records, model.commit(states, prepared, pictures), strict=True):
            record.latents[now], record.poses[now] = section.latents[0], section.poses[0]
    return records


def _explained(
    model: Rooms,
    states: Sequence[RoomsState],
    controls: np.ndarray,
    histories: Sequence[History],
    latents: np.ndarray,
) -> Preparation:
    """Of the whole way, no way, what the model expects and a slide along a wall, what comes nearest to `latents` (V).

    Where the picture hardly tells, in front of a bare wall, it is the whole way.
    """
    guess, camera = model.prepare(states, list(controls), histories), model.camera
    here = torch.stack([state.pose for state in states]).to(model.device)
    whole, turn = guess.control[:, None, :2], guess.control[:, None, 2:]
    expected = displacement_between(camera, here, guess.pose)[:, None]
    ways = torch.cat([whole, 0 * whole, expected, _slides(whole, guess.pose[:, 2])], 1)
    poses = move(camera, here[:, None], torch.cat([ways, turn.expand(-1, ways.shape[1], -1)], 2))
    missed = _missed(model, histories, poses, latents)
    missed[:, 1:] *= _DOUBT
    return guess._replace(pose=poses[torch.arange(len(poses)), missed.argmin(1)])


def _slides(whole: Tensor, heading: Tensor) -> Tensor:
    """What is left of displacements `whole` (V, 1, 2) under `heading` (V,) along each wall: (V, SLIDES, 2)."""
    angle = torch.arange(SLIDES, device=whole.device) * (math.pi / SLIDES) - heading[:, None]
    along = torch.stack([angle.cos(), -angle.sin()], -1)  # ahead and to the right
    return along * (along * whole).sum(-1, keepdim=True)


def _missed(model: Rooms, histories: Sequence[History], poses: Tensor, latents: np.ndarray) -> Tensor:
    """Mean square error (V, N) of what the frame before shows, from `poses` (V, N, 3), of the frames of `latents`."""
    before = model.views(histories, [model.layout.slots - 1])
    wanted = unit(model.looks.of(list(latents)).images)
    rows = []
    for i, around in enumerate(poses):
        source = Sources(*(x[i : i + 1].expand(len(around), *x.shape[1:]) for x in before))
        pictures = composed(seen_from(source, around), edge=model.camera.edge)
        share = pictures.shares[:, 0]
        error = (pictures.both[:, 0] - wanted[i]).square().mean(1)
        rows.append((error * share).sum((1, 2)) / share.sum((1, 2)).clamp(min=1))
    return torch.stack(rows)


def from_start(poses: np.ndarray) -> np.ndarray:
    """Poses (T, 3) as a session counts them: float32, the first is zero."""
    seen = torch.from_numpy(np.asarray(poses, np.float64))
    return relative(seen, seen[0]).float().numpy()
