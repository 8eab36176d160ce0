"""Our recall and its rivals: memory banks behind the evaluation's `Recall`, all with the same number of slots."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from memory_bank import BankConfig, MemoryBank, ModeName, Query, Tuning
from model.evaluation.cases import Method
from model.evaluation.rollout import Record, history_at, no_recall, sample
from model.world_model import State, WorldModel

from .session import LOOKAHEAD_SECONDS, NUM_TARGETS, expected_poses, recall_mode

KEEP_ALL = 2.0  # a novelty above any cosine


@dataclass(frozen=True, slots=True)
class Policy:
    """How a session remembers and recalls."""

    mode: ModeName | None = None  # None: as a session
    novelty: float | None = KEEP_ALL  # None: as a session's
    knows_poses: bool = False  # true poses instead of the model's own
    is_foreign: bool = False
    tuning: Tuning = Tuning()
    num: int | None = None  # memories; None: one for each slot
    lookahead: float = LOOKAHEAD_SECONDS
    keeps_last: bool = False  # a view that is seen again takes the place of what was kept of it


POLICIES = {
    "recent": Policy("recent"),
    "log": Policy("log"),
    "random": Policy("random"),
    "similar": Policy("similar"),
    "hybrid": Policy("hybrid"),
    "sequel": Policy("sequel"),
    "fov": Policy("fov", knows_poses=True),
    "pose": Policy("pose", novelty=None),
    "oracle": Policy(knows_poses=True),
    "ours": Policy(novelty=None),
    "other": Policy(novelty=None, is_foreign=True),
}


def methods(model: WorldModel, names: Sequence[str], *, field_of_view: float) -> list[Method]:
    """The ways to recall that are compared; `off` recalls nothing. Raises ValueError for a name that is none."""
    unknown = set(names) - {"off", *POLICIES}
    if unknown:
        raise ValueError(f"expected methods of off, {', '.join(POLICIES)}, got {', '.join(sorted(unknown))}")
    return [method_of(model, POLICIES.get(name), name=name, field_of_view=field_of_view) for name in names]


def method_of(model: WorldModel, policy: Policy | None, *, name: str, field_of_view: float) -> Method:
    """A policy by a name; none recalls nothing."""
    if policy is None:
        return Method(name, lambda: no_recall)
    return Method(name, lambda: BankRecall(model, policy, field_of_view=field_of_view), policy.is_foreign)


@dataclass(slots=True)
class _Line:
    """What one record's session has remembered so far."""

    bank: MemoryBank
    state: State
    num: int = 0  # latents offered


class BankRecall:
    """A `Recall` by a memory bank for each record, fed and asked as `Session` feeds and asks its own."""

    def __init__(self, model: WorldModel, policy: Policy, *, field_of_view: float) -> None:
        self._model, self._policy, self._field_of_view = model, policy, field_of_view
        self._lines: dict[Record, _Line] = {}

    def __call__(self, record: Record, now: int) -> Sequence[int]:
        line = self._lines.get(record)
        if line is None:
            line = self._lines[record] = self._new_line()
        self._remember(line, record.library or record, now)
        spec = self._model.spec
        mode = self._policy.mode or recall_mode(spec)
        latent = self._draft(line.state, record, now) if mode == "draft" else record.latents[now - 1]
        query = Query(
            index=now - 1,
            key=self._model.features(latent[None])[0],
            latent=latent,
            num=self._policy.num or spec.num_recalled,
            context=frozenset({0, *range(max(0, now - spec.num_recent), now)}),
            mode=mode,
            poses=self._targets(line.state, record, now) if mode in ("view", "pose", "fov") else None,
            field_of_view=self._field_of_view if mode in ("view", "fov") else None,
            tuning=self._policy.tuning,
        )
        return line.bank.recall(query).ids

    def _new_line(self) -> _Line:
        spec = self._model.spec
        config = BankConfig(
            key_size=spec.feature_size,
            latent_shape=spec.latent_shape,
            rate=spec.frame_rate / spec.frames_per_latent,
            seed=len(self._lines),
            num_rays=spec.num_rays,
        )
        if self._policy.novelty is not None:
            config = replace(config, novelty=self._policy.novelty)
        return _Line(MemoryBank(config), self._model.open(image=None, prompt="", seed=0))

    def _remember(self, line: _Line, source: Record, now: int) -> None:
        """Offer all latents of `source` before `now` that have not been offered."""
        new = range(line.num, min(now, len(source.latents)))
        if not new:
            return
        poses = self._known_poses(source)
        latents = source.latents[new.start : new.stop]
        keys, sights = self._model.features(latents), self._model.sight(latents)
        for index, key, sight in zip(new, keys, sights, strict=True):
            if self._policy.keeps_last:
                self._make_way(line.bank, index, key)
            line.bank.remember(index=index, key=key, latent=source.latents[index], pose=poses[index], sight=sight)
        line.num = new.stop

    def _make_way(self, bank: MemoryBank, index: int, key: np.ndarray) -> None:
        """Forget what `key` shows again, but for what is still recent: a slow walk would forget itself."""
        again = bank.recall(Query(index=index, key=key, num=Tuning().shortlist, mode="similar"))
        oldest = index - self._model.spec.num_recent
        likely = zip(again.ids, again.scores, strict=True)
        bank.forget([id for id, score in likely if score >= bank.config.novelty and 0 < id < oldest])

    def _draft(self, state: State, record: Record, now: int) -> np.ndarray:
        """What latent `now` would be without memories: with one denoise step, that step's estimate. (C, h, w)."""
        self._resume(state, record, now)
        history = history_at(self._model.spec, record, now, ())
        [section] = sample(self._model, [state], [record.controls[now : now + 1]], [history])
        return np.asarray(section.latents[0])

    def _targets(self, state: State, record: Record, now: int) -> np.ndarray | None:
        """Where the camera is expected: as a session expects it, or, for those who know, where it will be."""
        seconds = self._policy.lookahead
        if self._policy.knows_poses:
            ahead = np.linspace(0, round(seconds * self._model.spec.frame_rate) - 1, NUM_TARGETS)
            times = (now + ahead.round().astype(int)).clip(max=len(record.poses) - 1)
            return np.asarray(self._known_poses(record)[times])
        self._resume(state, record, now)
        return expected_poses(self._model, state, record.controls[now : now + 1], seconds=seconds)

    def _resume(self, state: State, record: Record, now: int) -> None:
        self._model.resume(state, record.latents[:now], record.poses[:now], num_sections=now - 1)

    def _known_poses(self, record: Record) -> np.ndarray:
        if not self._policy.knows_poses:
            return record.poses
        assert record.truth is not None, "whoever asks for the truth gave it"
        return record.truth
