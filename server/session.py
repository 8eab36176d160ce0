"""One world line: what was generated, what is remembered of it, and what the model is shown next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from memory_bank import BankConfig, MemoryBank, ModeName, Query, Recall, recall_batch
from model.world_model import History, ModelSpec, Section, State, WorldModel

LOOKAHEAD_SECONDS = 1.0  # a place must be recalled before it comes into view
NUM_TARGETS = 3  # expected poses that recall looks for, from the next section's end to that far ahead
THUMBNAIL_SLACK = 256  # pictures of forgotten memories that may wait to be swept out

_NOTHING = Recall(ids=(), scores=(), why=(), gated=False, took_us=0)


class BrokenSectionError(ValueError):
    """The model made latents that are no numbers; shown to it again they would spoil all that follows."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """What the model reads from memory now, best first, for the eyes of the client."""

    ids: tuple[int, ...]  # latent indices
    scores: tuple[float, ...]
    why: tuple[str, ...]
    thumbnails: tuple[bytes, ...]  # encoded as the engine was told; empty where there is none


class Session:
    """The history of one world line in bounded memory: start, newest latents and a memory bank.

    The start is latent 0 and is among the newest latents until it is too old for them. A section goes in by
    `commit` and, once its features are known, `remember`; before the next one `next_histories` recalls.
    """

    def __init__(
        self, spec: ModelSpec, start: Section, *, key: np.ndarray, sight: np.ndarray, seed: int, capacity: int
    ) -> None:
        """`start` as `State.start` gives it, its `key` (feature_size,) and `sight` (num_rays,).

        The memory bank has a `capacity` in latents.
        """
        self.spec = spec
        self.recalls = True
        self.recalled = Recalled((), (), (), ())
        self.recall_us = 0
        self.num_latents = 1
        num_kept = max(spec.num_recent, spec.section_latents)
        self._start = start
        self._latents = np.zeros((num_kept, *spec.latent_shape), np.float16)
        self._poses = np.zeros((num_kept, 3), np.float32)
        self._latents[-1:], self._poses[-1:] = start.latents, start.poses
        self._bank = MemoryBank(
            BankConfig(
                key_size=spec.feature_size,
                latent_shape=spec.latent_shape,
                capacity=capacity,
                rate=spec.frame_rate / spec.frames_per_latent,
                seed=seed,
                num_rays=spec.num_rays,
            )
        )
        self._thumbnails: dict[int, bytes] = {}
        self._remember(0, key, sight)

    @property
    def num_sections(self) -> int:
        return (self.num_latents - 1) // self.spec.section_latents

    @property
    def num_frames(self) -> int:
        """Frames shown so far, which is the next one's index."""
        return (self.num_latents - 1) * self.spec.frames_per_latent

    @property
    def capacity(self) -> int:
        return self._bank.config.capacity

    @property
    def num_memories(self) -> int:
        return len(self._bank)

    @property
    def can_recall(self) -> bool:
        return self.recalls and self.spec.num_recalled > 0

    @property
    def recent(self) -> Section:
        """The newest latents, oldest first, as `WorldModel.resume` wants them."""
        count = min(self.num_latents, len(self._latents))
        return Section(self._latents[-count:].copy(), self._poses[-count:].copy())

    @property
    def num_unremembered(self) -> int:
        """Newest latents that `remember` has not been told of."""
        return self.num_latents - 1 - self._newest_key_index

    def commit(self, section: Section) -> None:
        """Append a finished section. Raises BrokenSectionError, and changes nothing, if it is not finite."""
        if not (np.isfinite(section.latents).all() and np.isfinite(section.poses).all()):
            raise BrokenSectionError(f"expected finite latents and poses after section {self.num_sections}, got others")
        count = len(section.latents)
        for kept, new in ((self._latents, section.latents), (self._poses, section.poses)):
            kept[:-count] = kept[count:]
            kept[-count:] = new
        self.num_latents += count

    def remember(self, keys: np.ndarray, sights: np.ndarray) -> list[int]:
        """Offer the newest latents to the bank under `keys` (n, feature_size), with `sights` (n, num_rays).

        Returns the indices that it stored.
        """
        count = self.num_unremembered
        assert len(keys) == count, f"expected keys of {count} latents, got {len(keys)}"
        first = self.num_latents - count
        offered = enumerate(zip(keys, sights, strict=True), first)
        return [index for index, (key, sight) in offered if self._remember(index, key, sight)]

    def illustrate(self, index: int, thumbnail: bytes) -> None:
        """Keep a picture of a stored memory for as long as the bank holds it."""
        self._thumbnails[index] = thumbnail
        if len(self._thumbnails) >= self._bank.config.capacity + THUMBNAIL_SLACK:
            self._thumbnails = {id: picture for id, picture in self._thumbnails.items() if id in self._bank}

    def forget(self) -> None:
        """Hold nothing any more, at the end."""
        self._thumbnails.clear()
        self._bank = MemoryBank(replace(self._bank.config, capacity=2))  # the least that there is

    def _remember(self, index: int, key: np.ndarray, sight: np.ndarray) -> bool:
        place = index - self.num_latents
        pose = self._poses[place] if self.spec.has_pose else None
        self._newest_key, self._newest_key_index = key, index
        latent = self._latents[place]
        return self._bank.remember(index=index, key=key, latent=latent, pose=pose, sight=sight) == index

    def _recent_indices(self) -> np.ndarray:
        return np.arange(self.num_latents - self.spec.num_recent, self.num_latents)

    def _query(self, poses: np.ndarray | None) -> Query:
        return Query(
            index=self.num_latents - 1,
            key=self._newest_key,
            latent=self._latents[-1],
            num=self.spec.num_recalled,
            context=frozenset({0, *self._recent_indices().clip(0).tolist()}),
            mode=recall_mode(self.spec),
            poses=poses,
            field_of_view=self.spec.field_of_view,
        )

    def _note(self, recall: Recall) -> None:
        self.recall_us = recall.took_us
        if recall.ids != self.recalled.ids:
            thumbnails = tuple(self._thumbnails.get(id, b"") for id in recall.ids)
            self.recalled = Recalled(recall.ids, recall.scores, tuple(map(str, recall.why)), thumbnails)

    def _history(self) -> History:
        """The slots as `History` has them, with the memories that were recalled last."""
        spec, gathered = self.spec, self._bank.gather(self.recalled.ids)
        num_memories, indices = len(self.recalled.ids), self._recent_indices()
        first = 1 + spec.num_recalled
        total = first + spec.num_recent
        newest = len(self._latents) - spec.num_recent
        history = History(
            latents=np.zeros((total, *spec.latent_shape), np.float16),
            indices=np.zeros(total, np.int64),
            poses=np.zeros((total, 3), np.float32),
            valid=np.concatenate([[True], np.arange(spec.num_recalled) < num_memories, indices >= 0]),
        )
        recalled = slice(1, 1 + num_memories)
        history.latents[:1], history.poses[:1] = self._start.latents, self._start.poses
        history.latents[recalled], history.indices[recalled], history.poses[recalled] = gathered
        history.latents[first:], history.poses[first:] = self._latents[newest:], self._poses[newest:]
        history.indices[first:] = indices.clip(0)
        return history


def recall_mode(spec: ModelSpec) -> ModeName:
    """How a session of such a model recalls: by the best that the model knows of where it is and what it sees."""
    if not spec.has_pose:
        return "sequel"
    return "view" if spec.num_rays else "pose"


def next_histories(sessions: Sequence[Session], poses: Sequence[np.ndarray | None]) -> list[History]:
    """What each session shows the model next, recalling for all of them in one search.

    `poses` are `expected_poses` of each; call it once per section.
    """
    queries = {i: sessions[i]._query(target) for i, target in enumerate(poses) if sessions[i].can_recall}
    recalls = recall_batch([sessions[i]._bank for i in queries], list(queries.values()))
    found = dict(zip(queries, recalls, strict=True))
    for i, session in enumerate(sessions):
        session._note(found.get(i, _NOTHING))
    return [session._history() for session in sessions]


def expected_poses(
    model: WorldModel, state: State, controls: np.ndarray, *, seconds: float = LOOKAHEAD_SECONDS
) -> np.ndarray | None:
    """Where a session will be soon if its newest control is held: (NUM_TARGETS, 3), or None without poses.

    `controls` (n, A) are the next section's; the last target is `seconds` ahead.
    """
    if not model.spec.has_pose:
        return None
    held = max(0, round(seconds * model.spec.frame_rate) - len(controls))
    ahead = np.concatenate([controls, np.repeat(controls[-1:], held, axis=0)])
    rows = np.linspace(len(controls) - 1, len(ahead) - 1, NUM_TARGETS).round().astype(int)
    return np.asarray(model.expected_poses(state, ahead)[rows])
