"""Let a model continue recorded experience: context from the record, controls from the record, frames its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..rooms.camera import Camera, displacement_between
from ..rooms.world import Rooms
from ..world_model import History, Job, ModelSpec, Section, WorldModel

# (record, index of the frame to come) -> indices of recalled latents, best first
Recall = Callable[["Record", int], Sequence[int]]


@dataclass(slots=True, eq=False)
class Record:
    """A session as the model sees it: latents (T, C, h, w) float16, controls (T, A), poses (T, 3).

    `controls[t]` leads to latent t. Rollouts write the latents and poses that they generate. `truth` are the
    true poses, which only a recall that cheats looks at, and `rooms` if it `is_led`: then it goes where they go,
    and not where it takes the controls to lead. Recalled latents come from the `library`, another record, or from
    this one if there is none.
    """

    latents: np.ndarray
    controls: np.ndarray
    poses: np.ndarray
    truth: np.ndarray | None = None
    library: "Record | None" = None
    is_led: bool = False

    def copy(self) -> "Record":
        return replace(self, latents=self.latents.copy(), poses=self.poses.copy())


def no_recall(_record: Record, _now: int) -> Sequence[int]:
    return ()


def history_at(spec: ModelSpec, record: Record, now: int, recalled: Sequence[int]) -> History:
    """The slots that the model reads to make latent `now`: start, `recalled` (best first), recent."""
    library = record.library or record
    memories = list(recalled)[: spec.num_recalled]
    recent = np.arange(now - spec.num_recent, now)
    own = np.concatenate([[0], np.zeros(spec.num_recalled, np.int64), recent])
    valid = np.concatenate([[True], np.arange(spec.num_recalled) < len(memories), recent >= 0])
    indices = np.where(valid, own, 0)
    latents, poses = record.latents[indices], record.poses[indices]
    slots = slice(1, 1 + len(memories))
    indices[slots], latents[slots], poses[slots] = memories, library.latents[memories], library.poses[memories]
    return History(
        latents=np.where(valid[:, None, None, None], latents, 0).astype(np.float16),
        indices=indices.astype(np.int64),
        poses=np.where(valid[:, None], poses, 0).astype(np.float32),
        valid=valid,
    )


def rollout(
    model: WorldModel, records: Sequence[Record], *, first: int, frames: int, recall: Recall = no_recall, seed: int = 0
) -> tuple[list[Record], np.ndarray]:
    """Generate latents `first` to `first + frames` of all records, each after its own history, in large batches.

    Returns copies of the records with the generated latents and the model's poses written in, and the
    decoded frames (len(records), frames, H, W, 3) uint8. Sections of one latent only; records all led, or none.
    """
    assert model.spec.section_latents == 1 == model.spec.frames_per_latent
    done = [record.copy() for record in records]
    shown = []
    for start in range(0, len(done), model.spec.max_batch):
        batch = done[start : start + model.spec.max_batch]
        states = [resumed(model, record, first, seed=seed + start + i) for i, record in enumerate(batch)]
        shown.append(np.stack([_step(model, states, batch, now, recall) for now in range(first, first + frames)], 1))
    return done, np.concatenate(shown)


def resumed(model: WorldModel, record: Record, now: int, *, seed: int) -> object:
    """A session that has shown `record` up to latent `now` - 1."""
    state = model.open(image=None, prompt="", seed=seed)
    model.resume(state, record.latents[:now], record.poses[:now], num_sections=now - 1)
    return state


def sample(
    model: WorldModel, states: Sequence[object], controls: Sequence[np.ndarray], histories: Sequence[History]
) -> list[Section]:
    """One section for each state, start to finish."""
    return _completed(model, model.begin(states, controls, histories))


def _completed(model: WorldModel, jobs: Sequence[Job]) -> list[Section]:
    while any(job.steps_left for job in jobs):
        model.advance(jobs)
    return model.finish(jobs)


def _step(model: WorldModel, states: Sequence[Any], records: Sequence[Record], now: int, recall: Recall) -> np.ndarray:
    """Make latent `now` of each record and write it in; returns the frames (len(records), H, W, 3)."""
    histories = [history_at(model.spec, record, now, recall(record, now)) for record in records]
    controls = [record.controls[now : now + 1] for record in records]
    if records[0].is_led:
        assert isinstance(model, Rooms), "only `rooms` can be told where it went"
        jobs: Sequence[Job] = model.begin(states, controls, histories, moved=_true_moves(model.camera, records, now))
        sections = _completed(model, jobs)
    else:
        sections = sample(model, states, controls, histories)
    for record, section in zip(records, sections, strict=True):
        record.latents[now], record.poses[now] = section.latents[0], section.poses[0]
    return np.concatenate(model.decode(states, sections))


def _true_moves(camera: Camera, records: Sequence[Record], now: int) -> Tensor:
    """Displacements (len(records), 2) to latent `now`, in steps."""
    true = [record.truth for record in records if record.truth is not None]
    assert len(true) == len(records), "who is led needs true poses"
    truth = torch.from_numpy(np.stack(true))
    return displacement_between(camera, truth[:, now - 1], truth[:, now]).float()
