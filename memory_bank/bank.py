"""One session's memory: what is worth keeping is kept, what is about to be needed is found."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from .entries import Entries
from .modes import MODES, Matches
from .query import NO_ID, BankConfig, EntryError, Gathered, PinnedEntryError, Query, QueryError, Recall, Stats
from .selection import select
from .store import check_state, is_unit, read_state, write_state

START = 0  # the id that is always kept
NUM_RECENT_KEYS = 128  # newest keys, kept whether or not their latents were stored: they are the context's


class MemoryBank:
    """Entries of one session, bounded for good by `config.capacity`. Not thread-safe: its engine thread owns it."""

    def __init__(self, config: BankConfig, *, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self.config = config
        self._clock_ns = clock_ns
        self._entries = Entries(config)
        self._recent_ids = np.full(NUM_RECENT_KEYS, NO_ID, np.int64)
        self._recent_keys = np.zeros((NUM_RECENT_KEYS, config.key_size), np.float32)
        self._last_index = NO_ID
        self._num_refused = self._num_evicted = self._num_forgotten = 0

    def __len__(self) -> int:
        return self._entries.num

    def __contains__(self, entry: int) -> bool:
        return bool(self._entries.holds(np.asarray([entry]))[0])

    def remember(
        self,
        *,
        index: int,
        key: np.ndarray,
        latent: np.ndarray,
        pose: np.ndarray | None = None,
        sight: np.ndarray | None = None,
    ) -> int:
        """Offer the latent of a final section; returns the id that stands for it, `index` itself if it was stored.

        `key` (d,) float32 of unit length, `latent` (C, h, w), `pose` (3,) or none, `sight` (R,) as `sight` has it or
        none. A view that the bank knows is refused: the first write wins, since it carries the least drift. In a full
        bank the newer of the two most similar entries goes. Raises EntryError if the shapes are others or `index` does
        not grow.
        """
        self._check_entry(index, key, latent, pose=pose, sight=sight)
        [(ids, scores)] = self._entries.nearest(key[None], 1)
        twin, cosine = (int(ids[0]), float(scores[0])) if len(ids) else (NO_ID, -np.inf)
        self._last_index = index
        self._recent_ids[index % NUM_RECENT_KEYS] = index
        self._recent_keys[index % NUM_RECENT_KEYS] = key
        if cosine >= self.config.novelty or not self._has_room(cosine):
            self._num_refused += 1
            return twin
        position = np.full(3, np.nan, np.float32) if pose is None else pose
        rays = np.full(self.config.num_rays, np.nan, np.float32) if sight is None else sight
        entry: dict[str, np.ndarray | float] = {"ids": index, "keys": key, "latents": latent}
        self._entries.add(entry | {"poses": position, "sights": rays, "twin_ids": twin, "twin_cos": cosine})
        return index

    def recall(self, query: Query) -> Recall:
        """Find up to `query.num` entries that the context lacks. Changes nothing; `gather` gives the payloads."""
        return recall_batch([self], [query])[0]

    def gather(self, ids: Iterable[int]) -> Gathered:
        """Payloads of `ids` in that order; raises UnknownEntryError for an id that is not held (any more)."""
        return self._entries.gather(np.fromiter(ids, np.int64))

    def forget(self, ids: Iterable[int]) -> int:
        """Remove entries for good and say how many were still there; raises PinnedEntryError for the start."""
        gone = set(ids)
        if START in gone:
            raise PinnedEntryError("expected ids above 0, got 0: the start is always kept")
        asked = np.asarray(sorted(gone), np.int64)
        held = asked[self._entries.holds(asked)].tolist()
        for entry in held:
            self._entries.remove(entry)
        self._recent_ids[np.isin(self._recent_ids, asked)] = NO_ID
        self._num_forgotten += len(held)
        return len(held)

    def stats(self) -> Stats:
        return Stats(
            num_entries=self._entries.num,
            capacity=self.config.capacity,
            num_refused=self._num_refused,
            num_evicted=self._num_evicted,
            num_forgotten=self._num_forgotten,
            num_bytes=self._entries.num_bytes + self._recent_ids.nbytes + self._recent_keys.nbytes,
        )

    def state(self) -> dict[str, np.ndarray]:
        """Everything that `restore` needs, as copies, to put into a snapshot."""
        counters = (self._last_index, self._num_refused, self._num_evicted, self._num_forgotten)
        return self._entries.state() | {
            "recent_ids": self._recent_ids.copy(),
            "recent_keys": self._recent_keys.copy(),
            "counters": np.asarray(counters, np.int64),
        }

    @classmethod
    def restore(cls, config: BankConfig, state: dict[str, np.ndarray]) -> Self:
        """A bank that recalls bit for bit as the one that gave `state`; raises StoreError if it does not fit."""
        check_state(state, config=config, num_recent=NUM_RECENT_KEYS)
        bank = cls(config)
        bank._entries.restore(state)
        bank._recent_ids[:], bank._recent_keys[:] = state["recent_ids"], state["recent_keys"]
        counters = state["counters"].tolist()
        bank._last_index, bank._num_refused, bank._num_evicted, bank._num_forgotten = counters
        return bank

    def save(self, path: Path) -> None:
        """Write the bank to one safetensors file, whole or not at all."""
        write_state(path, self.state())

    @classmethod
    def load(cls, path: Path, *, config: BankConfig) -> Self:
        """Read what `save` wrote; raises StoreError if it is no bank or not one of this `config`."""
        return cls.restore(config, read_state(path))

    def _check_entry(
        self, index: int, key: np.ndarray, latent: np.ndarray, *, pose: np.ndarray | None, sight: np.ndarray | None
    ) -> None:
        if index <= self._last_index:
            raise EntryError(f"expected an index above {self._last_index}, got {index}")
        if key.shape != (self.config.key_size,) or key.dtype != np.float32 or not is_unit(key):
            raise EntryError(f"expected a float32 key of shape ({self.config.key_size},) and unit length, got {key!r}")
        if latent.shape != self.config.latent_shape:
            raise EntryError(f"expected a latent of shape {self.config.latent_shape}, got {latent.shape}")
        if pose is not None and (pose.shape != (3,) or not np.isfinite(pose).all()):
            raise EntryError(f"expected a finite pose of shape (3,), got {pose!r}")
        rays = (self.config.num_rays,)
        if sight is not None and (sight.shape != rays or not np.isfinite(sight).all()):
            raise EntryError(f"expected a finite sight of shape {rays}, got {sight!r}")

    def _has_room(self, cosine: float) -> bool:
        """Whether an entry whose most similar older one is at `cosine` may stay; evicts for it if need be.

        The start is never evicted: it is the oldest, so it is never the newer of two.
        """
        if self._entries.num < self.config.capacity:
            return True
        victim, redundancy = self._entries.most_redundant()
        if redundancy <= cosine:
            return False
        self._entries.remove(victim)
        self._num_evicted += 1
        return True

    def _context_keys(self, context: frozenset[int]) -> np.ndarray:
        """Keys of the context's latents that are recent or held: (c, d)."""
        ids = np.asarray(sorted(context), np.int64)
        is_recent = self._recent_ids[ids % NUM_RECENT_KEYS] == ids
        older = ids[~is_recent]
        older = older[self._entries.holds(older)]
        return np.concatenate([self._recent_keys[ids[is_recent] % NUM_RECENT_KEYS], self._entries.keys_of(older)])

    def _check_query(self, query: Query) -> None:
        if query.mode not in MODES:
            raise QueryError(f"expected one of the modes {', '.join(MODES)}, got {query.mode!r}")
        if query.key.shape != (self.config.key_size,):
            raise QueryError(f"expected a key of shape ({self.config.key_size},), got {query.key.shape}")
        if query.num < 1:
            raise QueryError(f"expected to recall at least 1 entry, got {query.num}")

    def _matches(self, queries: Sequence[Query]) -> list[Matches]:
        """The matches that each query's mode needs, from one search for all of them."""
        widths = [MODES[query.mode].num_shortlists * max(query.tuning.shortlist, query.num) for query in queries]
        # Entries of the context are passed over later: search for so many more.
        widths = [width + len(query.context) if width else 0 for width, query in zip(widths, queries, strict=True)]
        found = self._entries.nearest(np.stack([query.key for query in queries]), max(widths))
        return [Matches(ids[:width], scores[:width]) for (ids, scores), width in zip(found, widths, strict=True)]

    def _recall(self, queries: Sequence[Query]) -> list[Recall]:
        for query in queries:
            self._check_query(query)
        started = self._clock_ns()
        matches = self._matches(queries)
        search_ns = (self._clock_ns() - started) // len(queries)
        return [self._answer(query, found, search_ns) for query, found in zip(queries, matches, strict=True)]

    def _answer(self, query: Query, matches: Matches, search_ns: int) -> Recall:
        started = self._clock_ns()
        chosen = select(self._entries, query, matches=matches, context_keys=self._context_keys(query.context))
        return Recall(
            ids=tuple(chosen.ids),
            scores=tuple(chosen.scores),
            why=tuple(chosen.why),
            gated=chosen.gated,
            took_us=(self._clock_ns() - started + search_ns) // 1000,
        )


def recall_batch(banks: Sequence[MemoryBank], queries: Sequence[Query]) -> list[Recall]:
    """The recalls of one tick, `queries[i]` put to `banks[i]`: the same answers as one by one.

    Queries to one bank share its search. Banks share none: each search reads keys that no other one reads, so a GEMM
    over all of them would multiply the work by their number.
    """
    places: dict[int, list[int]] = {}
    for place, bank in enumerate(banks):
        places.setdefault(id(bank), []).append(place)
    recalls: dict[int, Recall] = {}
    for shared in places.values():
        answers = banks[shared[0]]._recall([queries[place] for place in shared])
        recalls.update(zip(shared, answers, strict=True))
    return [recalls[place] for place in range(len(queries))]
