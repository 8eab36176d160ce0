"""Where a body fits between walls, and the shortest ways there: a grid over a floor plan."""

from collections import deque

import numpy as np

Node = tuple[int, int]

_SPACING = 0.4  # metres; less than the clearance, so no step of the grid leads through a wall
_STRIDE = 0.1  # metres between the places where a straight line is tried


class Ways:
    """What is open to a body that keeps `clearance` metres away from `walls`, segments (n, 2, 2)."""

    def __init__(self, walls: np.ndarray, *, clearance: float) -> None:
        assert clearance > _SPACING
        self._walls, self._clearance = walls, clearance
        self._corner = walls.reshape(-1, 2).min(0)
        columns, rows = (np.ceil((walls.reshape(-1, 2).max(0) - self._corner) / _SPACING)).astype(int) + 1
        grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij"), -1)
        self._is_free = self.is_free(self._corner + grid.reshape(-1, 2) * _SPACING).reshape(columns, rows)

    def is_free(self, places: np.ndarray) -> np.ndarray:
        """Which of `places` (n, 2) are far enough from all walls: (n,) bool."""
        start, along = self._walls[:, 0], np.diff(self._walls, axis=1)[:, 0]
        offset = places[:, None] - start
        share = (offset * along).sum(2) / (along**2).sum(1)
        away = np.linalg.norm(offset - share.clip(0, 1)[..., None] * along, axis=2)
        return np.asarray(away.min(1) >= self._clearance)

    def random_place(self, rng: np.random.Generator, *, start: np.ndarray) -> np.ndarray:
        """A place (2,) to which one can walk from `start` (2,)."""
        reached = list(self._reached(self._node(start)))
        return self._place(reached[int(rng.integers(len(reached)))])

    def way(self, start: np.ndarray, goal: np.ndarray) -> list[np.ndarray]:
        """Corners on a short way from `start` to `goal`, both (2,), which are not among them; none if there is none."""
        here, there = self._node(start), self._node(goal)
        before = self._reached(there)  # so that following it from `here` leads there
        if here not in before:
            return []
        path = [here]
        while path[-1] != there:
            path.append(before[path[-1]])
        return self._straightened([self._place(node) for node in path])[1:-1]

    def _reached(self, start: Node) -> dict[Node, Node]:
        """All nodes that can be walked to from `start`, each with the next one on the way back there."""
        before, queue = {start: start}, deque([start])
        while queue:
            i, j = here = queue.popleft()
            for node in ((i + 1, j), (i, j + 1), (i - 1, j), (i, j - 1)):
                if node not in before and self._is_free[node]:
                    before[node] = here
                    queue.append(node)
        return before

    def _straightened(self, places: list[np.ndarray]) -> list[np.ndarray]:
        """The same way with fewer corners: from each, as far on as a straight line is free."""
        kept, i = [places[0]], 0
        while i < len(places) - 1:
            j = len(places) - 1
            while j > i + 1 and not self._is_straight(places[i], places[j]):
                j = (i + j) // 2
            kept, i = [*kept, places[j]], j
        return kept

    def _is_straight(self, start: np.ndarray, end: np.ndarray) -> bool:
        share = np.linspace(0, 1, int(np.hypot(*(end - start)) / _STRIDE) + 2)[:, None]
        return bool(self.is_free(start + share * (end - start)).all())

    def _node(self, place: np.ndarray) -> Node:
        """The free node nearest to `place`."""
        nodes = np.argwhere(self._is_free)
        i, j = nodes[np.abs(self._corner + nodes * _SPACING - place).sum(1).argmin()]
        return int(i), int(j)

    def _place(self, node: Node) -> np.ndarray:
        return np.asarray(self._corner + np.array(node) * _SPACING)
