"""Search over preallocated keys by inner product; the one module that knows whether FAISS has a GPU.

A segment is SEGMENT_KEYS rows of the one array. On the CPU a search is one scan over the rows in use, by `faiss.knn`,
which needs no index object. A GPU holds a copy of every full segment and keeps it until one of its rows changes; what
it finds is scored again on the CPU, so that the scores are the same bits on either device.
"""

import functools
from collections.abc import Callable

import faiss
import numpy as np

SEGMENT_KEYS = 4096
_MAX_GPU_WIDTH = 2048  # FAISS's limit of k there


class SealedSegments:
    """Copies of full segments in FAISS indexes of their own."""

    def __init__(self, make_index: Callable[[], faiss.Index]) -> None:
        self._make_index = make_index
        self._copies: list[faiss.Index] = []
        self._stale: set[int] = set()

    def reopen(self, row: int) -> None:
        """A row changed: its segment's copy is made anew before the next search."""
        self._stale.add(row // SEGMENT_KEYS)

    def find(self, queries: np.ndarray, keys: np.ndarray, width: int) -> np.ndarray:
        """Rows of `keys` among which are the `width` nearest of each query: (q, m) int64, m >= width."""
        num_full = len(keys) // SEGMENT_KEYS
        found = [self._search(segment, queries, keys, width) for segment in range(num_full)]
        tail = keys[num_full * SEGMENT_KEYS :]
        if len(tail):
            found.append(_knn(queries, tail, min(width, len(tail)))[1] + num_full * SEGMENT_KEYS)
        return np.concatenate(found, axis=1)

    def _search(self, segment: int, queries: np.ndarray, keys: np.ndarray, width: int) -> np.ndarray:
        first = segment * SEGMENT_KEYS
        if segment == len(self._copies):
            self._copies.append(self._make_index())
            self._stale.add(segment)
        if segment in self._stale:
            self._copies[segment].reset()
            self._copies[segment].add(keys[first : first + SEGMENT_KEYS])
            self._stale.discard(segment)
        rows = self._copies[segment].search(queries, min(width, SEGMENT_KEYS))[1]
        return np.asarray(rows) + first


class KeyIndex:
    """The keys of one bank, in rows that their owner fills densely from 0."""

    def __init__(self, *, key_size: int, capacity: int, segments: SealedSegments | None) -> None:
        self.keys = np.full((capacity, key_size), 0, np.float32)
        self._segments = segments

    def write(self, row: int, key: np.ndarray) -> None:
        self.keys[row] = key
        if self._segments is not None:
            self._segments.reopen(row)

    def search(self, queries: np.ndarray, *, num_keys: int, num: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest of the first `num_keys` rows to each of `queries` (q, d) float32.

        Returns scores (q, m) float32, best first, and rows (q, m) int64, with m >= min(num, num_keys): every row that
        ties with the last one wanted is there too, so that the caller can break ties as it likes.
        """
        keys = self.keys[:num_keys]
        num = min(num, num_keys)
        width = min(num + 1, num_keys)
        while True:
            scores, rows = self._nearest(queries, keys, width)
            if width == num_keys or bool((scores[:, -1] < scores[:, num - 1]).all()):
                return scores, rows
            width = min(4 * width, num_keys)

    def _nearest(self, queries: np.ndarray, keys: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        if self._segments is None or width > _MAX_GPU_WIDTH or len(keys) < SEGMENT_KEYS:
            return _knn(queries, keys, width)
        found = self._segments.find(queries, keys, width)
        again = [_knn(query[None], keys[rows], width) for query, rows in zip(queries, found, strict=True)]
        scores = np.concatenate([scores for scores, _ in again])
        return scores, np.stack([rows[order[0]] for rows, (_, order) in zip(found, again, strict=True)])


def open_segments(key_size: int) -> SealedSegments | None:
    """Segments on the GPU, or None where FAISS sees none and the CPU scans instead."""
    if faiss.get_num_gpus() == 0:
        return None
    return SealedSegments(lambda: faiss.GpuIndexFlatIP(_gpu_resources(), key_size))


@functools.cache
def _gpu_resources() -> "faiss.StandardGpuResources":  # quoted: faiss-cpu lacks it
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(64 << 20)  # the default takes 1.5 GiB from the world model
    return resources


def _knn(queries: np.ndarray, keys: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    return faiss.knn(queries, keys, width, metric=faiss.METRIC_INNER_PRODUCT)
