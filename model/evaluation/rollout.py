"""Let a model continue recorded experience: context from the record, controls from the record, frames its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..world_model import History, ModelSpec, Section, WorldModel

# (record, index of the frame to come) -> indices of recalled latents, best first
Recall = Callable[["Record", int], Sequence[int]]


@dataclass(slots=True)
class Record:
    """A session as the model sees it: latents (T, C, h, w) float16, controls (T, A), poses (T, 3).

    `controls[t]` leads to latent t. Rollouts write the latents and poses that they generate.
    """

    latents: np.ndarray
    controls: np.ndarray
    poses: np.ndarray

    def copy(self) -> "Record":
        return Record(self.latents.copy(), self.controls.copy(), self.poses.copy())


def no_recall(_record: Record, _now: int) -> Sequence[int]:
    return ()


def history_at(spec: ModelSpec, record: Record, now: int, recalled: Sequence[int]) -> History:
    """The slots that the model reads to make latent `now`: start, `recalled` (best first), recent."""
    recent = np.arange(now - spec.num_recent, now)
    chosen = np.full(spec.num_recalled, -1, np.int64)
    chosen[: len(recalled)] = list(recalled)[: spec.num_recalled]
    indices = np.concatenate([[0], chosen, recent])
    valid = indices >= 0
    indices = np.where(valid, indices, 0)
    mask = valid[:, None, None, None]
    return History(
        latents=np.where(mask, record.latents[indices], 0).astype(np.float16),
        indices=indices.astype(np.int64),
        poses=record.poses[indices].astype(np.float32),
        valid=valid,
    )


def rollout(
    model: WorldModel, records: Sequence[Record], *, first: int, frames: int, recall: Recall = no_recall, seed: int = 0
) -> tuple[list[Record], np.ndarray]:
    """Generate latents `first` to `first + frames` of all records in one batch, each after its own history.

    Returns copies of the records with the generated latents and the model's poses written in, and the
    decoded frames (len(records), frames, H, W, 3) uint8. Sections of one latent only.
    """
    spec = model.spec
    assert spec.section_latents == 1 == spec.frames_per_latent
    done = [record.copy() for record in records]
    states = [model.open(image=None, prompt="", seed=seed + i) for i in range(len(records))]
    for state, record in zip(states, done, strict=True):
        model.resume(state, record.latents[:first], record.poses[:first], num_sections=first - 1)
    shown = []
    for now in range(first, first + frames):
        histories = [history_at(spec, record, now, recall(record, now)) for record in done]
        sections = sample(model, states, [record.controls[now : now + 1] for record in done], histories)
        for record, section in zip(done, sections, strict=True):
            record.latents[now], record.poses[now] = section.latents[0], section.poses[0]
        shown.append(np.concatenate(model.decode(states, sections)))
    return done, np.stack(shown, 1)


def sample(
    model: WorldModel, states: Sequence[object], controls: Sequence[np.ndarray], histories: Sequence[History]
) -> list[Section]:
    """One section for each state, start to finish."""
    jobs = model.begin(states, controls, histories)
    while any(job.steps_left for job in jobs):
        model.advance(jobs)
    return model.finish(jobs)
