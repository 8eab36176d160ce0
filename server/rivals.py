"""Our recall and its rivals: memory banks behind the evaluation's `Recall`, all with the same number of slots."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from memory_bank import BankConfig, MemoryBank, ModeName, Query
from model.evaluation.cases import Method
from model.evaluation.rollout import Record, no_recall
from model.world_model import State, WorldModel

from .session import LOOKAHEAD_SECONDS, NUM_TARGETS, expected_poses

KEEP_ALL = 2.0  # a novelty above any cosine


@dataclass(frozen=True, slots=True)
class Policy:
    """How a session remembers and recalls."""

    mode: ModeName
    novelty: float | None = KEEP_ALL  # None: as a session's
    knows_poses: bool = False  # true poses instead of the model's own
    is_foreign: bool = False


POLICIES = {
    "recent": Policy("recent"),
    "log": Policy("log"),
    "random": Policy("random"),
    "similar": Policy("similar"),
    "hybrid": Policy("hybrid"),
    "sequel": Policy("sequel"),
    "fov": Policy("fov", knows_poses=True),
    "oracle": Policy("pose", knows_poses=True),
    "ours": Policy("pose", novelty=None),
    "other": Policy("pose", novelty=None, is_foreign=True),
}


def methods(model: WorldModel, names: Sequence[str], *, field_of_view: float) -> list[Method]:
    """The ways to recall that are compared; `off` recalls nothing. Raises ValueError for a name that is none."""
    unknown = set(names) - {"off", *POLICIES}
    if unknown:
        raise ValueError(f"expected methods of off, {', '.join(POLICIES)}, got {', '.join(sorted(unknown))}")
    return [_method(model, name, field_of_view) for name in names]


def _method(model: WorldModel, name: str, field_of_view: float) -> Method:
    if name == "off":
        return Method(name, lambda: no_recall)
    policy = POLICIES[name]
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
        query = Query(
            index=now - 1,
            key=self._model.features(record.latents[now - 1 : now])[0],
            latent=record.latents[now - 1],
            num=self._model.spec.num_recalled,
            context=frozenset({0, *range(max(0, now - self._model.spec.num_recent), now)}),
            mode=self._policy.mode,
            poses=self._targets(line.state, record, now),
            field_of_view=self._field_of_view if self._policy.mode == "fov" else None,
        )
        return line.bank.recall(query).ids

    def _new_line(self) -> _Line:
        spec = self._model.spec
        config = BankConfig(
            key_size=spec.feature_size,
            latent_shape=spec.latent_shape,
            rate=spec.frame_rate / spec.frames_per_latent,
            seed=len(self._lines),
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
        keys = self._model.features(source.latents[new.start : new.stop])
        for index, key in zip(new, keys, strict=True):
            line.bank.remember(index=index, key=key, latent=source.latents[index], pose=poses[index])
        line.num = new.stop

    def _targets(self, state: State, record: Record, now: int) -> np.ndarray | None:
        """Where the camera is expected: as a session expects it, or, for those who know, where it will be."""
        if self._policy.knows_poses:
            ahead = np.linspace(0, round(LOOKAHEAD_SECONDS * self._model.spec.frame_rate) - 1, NUM_TARGETS)
            times = (now + ahead.round().astype(int)).clip(max=len(record.poses) - 1)
            return np.asarray(self._known_poses(record)[times])
        self._model.resume(state, record.latents[:now], record.poses[:now], num_sections=now - 1)
        return expected_poses(self._model, state, record.controls[now : now + 1])

    def _known_poses(self, record: Record) -> np.ndarray:
        if not self._policy.knows_poses:
            return record.poses
        assert record.truth is not None, "whoever asks for the truth gave it"
        return record.truth
