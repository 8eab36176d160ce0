"""The rows a bank keeps: keys, payloads and poses in storage that is reserved once and filled densely."""

import numpy as np

from .index import KeyIndex, open_segments
from .query import NO_ID, BankConfig, Gathered, UnknownEntryError

# n entries · d key size · C, h, w of a latent


class Entries:
    """Entries by id, which is their latent index. Ids only grow; a removed entry's row is taken by the last one."""

    def __init__(self, config: BankConfig) -> None:
        self.config = config
        self.num = 0
        capacity = config.capacity
        # `full` takes the memory here and now, where `zeros` would let it grow for hours as rows are written.
        self._index = KeyIndex(key_size=config.key_size, capacity=capacity, segments=open_segments(config.key_size))
        self._columns: dict[str, np.ndarray] = {
            "ids": np.full(capacity, NO_ID, np.int64),
            "latents": np.full((capacity, *config.latent_shape), 0, np.float16),
            "poses": np.zeros((capacity, 3), np.float32),  # NaN where none was given
            "sights": np.zeros((capacity, config.num_rays), np.float32),  # likewise
            "twin_ids": np.full(capacity, NO_ID, np.int64),  # the most similar older entry, as last seen
            "twin_cos": np.zeros(capacity, np.float32),
        }
        self._sorted_ids = np.zeros(capacity, np.int64)
        self._sorted_rows = np.zeros(capacity, np.int64)

    @property
    def ids(self) -> np.ndarray:
        """Held ids, ascending, so oldest first: (num,) int64; a view, for reading before the next change."""
        return self._sorted_ids[: self.num]

    @property
    def num_bytes(self) -> int:
        arrays: list[np.ndarray] = [self._index.keys, self._sorted_ids, self._sorted_rows, *self._columns.values()]
        return sum(array.nbytes for array in arrays)

    def column(self, name: str) -> np.ndarray:
        """One column's rows in use, in row order; a view."""
        return self._index.keys[: self.num] if name == "keys" else self._columns[name][: self.num]

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Rows of held `ids`; raises UnknownEntryError for the first that is not."""
        held = self.holds(ids)
        if not held.all():
            raise UnknownEntryError(f"expected ids that the bank holds, got {int(ids[~held][0])}")
        return np.asarray(self._sorted_rows[np.searchsorted(self.ids, ids)])

    def holds(self, ids: np.ndarray) -> np.ndarray:
        if not self.num:
            return np.zeros(len(ids), bool)
        places = np.minimum(np.searchsorted(self.ids, ids), self.num - 1)
        return np.asarray(self.ids[places] == ids)

    def keys_of(self, ids: np.ndarray) -> np.ndarray:
        return np.asarray(self._index.keys[self.rows_of(ids)])

    def gather(self, ids: np.ndarray) -> Gathered:
        rows = self.rows_of(ids)
        latents, poses = self._columns["latents"][rows], self._columns["poses"][rows]
        return Gathered(latents, ids, np.nan_to_num(poses, nan=0.0))

    def add(self, values: dict[str, np.ndarray | float]) -> None:
        """Append one entry, a value per column and its key; there is room, and its id is higher than all before."""
        row = self.num
        self._index.write(row, np.asarray(values["keys"]))
        for name, column in self._columns.items():
            column[row] = values[name]
        self._sorted_ids[row], self._sorted_rows[row] = self._columns["ids"][row], row
        self.num += 1

    def remove(self, entry: int) -> None:
        """Drop a held id; the last row moves into its place, so rows stay dense."""
        place = int(np.searchsorted(self.ids, entry))
        row, last = int(self._sorted_rows[place]), self.num - 1
        moved = int(np.searchsorted(self.ids, self._columns["ids"][last]))
        self._sorted_rows[moved] = row
        self._index.write(row, self._index.keys[last])
        for column in self._columns.values():
            column[row] = column[last]
        for order in (self._sorted_ids, self._sorted_rows):
            order[place:last] = order[place + 1 : last + 1]
        self.num = last

    def most_redundant(self) -> tuple[int, float]:
        """The newer of the two most similar entries and their cosine; of ties the newest, never the oldest of all.

        A twin that is gone makes its cosine an upper bound, so only what comes out on top is computed anew.
        """
        ids, twins, cosines = (self.column(name) for name in ("ids", "twin_ids", "twin_cos"))
        while True:
            ties = np.flatnonzero(cosines == cosines.max())
            row = int(ties[np.argmax(ids[ties])])
            if self.holds(twins[row : row + 1])[0]:
                return int(ids[row]), float(cosines[row])
            twins[row], cosines[row] = self._older_twin(row)

    def _older_twin(self, row: int) -> tuple[int, float]:
        # No BLAS: its threads would fight the model's for the cores, and rows that are equal must score equal.
        ids, keys = self.column("ids"), self.column("keys")
        cosines = np.where(ids < ids[row], np.einsum("nd,d->n", keys, keys[row]), -np.inf)
        nearest = np.flatnonzero(cosines == cosines.max())
        twin = int(ids[nearest].min())
        return (twin, float(cosines.max())) if twin < ids[row] else (NO_ID, -np.inf)

    def nearest(self, keys: np.ndarray, num: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """The `num` nearest entries to each of `keys` (q, d): (ids, cosines) per key, best first, ties by id."""
        if not (self.num and num):
            return [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in keys]
        scores, rows = self._index.search(keys, num_keys=self.num, num=num)
        ids = self._columns["ids"][rows]
        order = np.lexsort((ids, -scores))[:, :num]
        return list(zip(np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1), strict=True))

    def closest(self, target: float, *, taken: frozenset[int] | set[int], after: int = NO_ID) -> int:
        """The held id nearest to index `target` that is above `after` and not `taken`, the older of two; or NO_ID."""
        low = int(np.searchsorted(self.ids, after, side="right"))
        right = max(int(np.searchsorted(self.ids, target)), low)
        left = right - 1
        while left >= low or right < self.num:
            is_left = right == self.num or (left >= low and target - self.ids[left] <= self.ids[right] - target)
            found = int(self.ids[left if is_left else right])
            if found not in taken:
                return found
            left, right = (left - 1, right) if is_left else (left, right + 1)
        return NO_ID

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all rows in use."""
        return {name: self.column(name).copy() for name in ("keys", *self._columns)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Fill an empty store with what `state` gave; the shapes have been checked."""
        self.num = len(state["ids"])
        for row, key in enumerate(state["keys"]):
            self._index.write(row, key)
        for name, column in self._columns.items():
            column[: self.num] = state[name]
        order = np.argsort(state["ids"])
        self._sorted_ids[: self.num], self._sorted_rows[: self.num] = state["ids"][order], order
