"""What a recall finds, without a generator: real frames, real queries, ground truth from the floor plan.

Every STEP frames of a recorded walk, a method recalls for what is to come, as at play time. What is missing
is what comes into view at t, t + 4 and t + 8 and was seen before, but not by the recent frames. A query
counts if that is at least NEEDED of the coming views, and a memory is right if it shows half of it.

`needed`      share of all queries that count; the rest is over these
`recall_at_1`, `recall_at_5`  share of queries that have right memories where one is among the first 1 or 5
`mrr`         mean over the same of 1 / rank of the first right one, 0 if none was recalled
`delay`       frames after memory comes to be needed until a right one is recalled, or it is no longer needed
`coverage`    share of the walls in the coming views that recent and recalled frames have seen
`coverage_recent`, `coverage_all`  the same by the recent frames alone, and by all that there ever was
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..rooms.camera import Camera
from .cases import Case, Poses
from .rollout import Recall
from .sight import Views, sees, wall_points

STEP = 6
AHEAD = (0, 4, 8)
NEEDED = 0.25
LEAST = 0.5


class Queries(NamedTuple):
    """The queries of one walk of T frames: n of them."""

    times: np.ndarray  # (n,)
    right: np.ndarray  # (n, T) bool: which frames are right to recall
    seen: np.ndarray  # (n, T, points) bool: which frames see each point of the coming views
    is_needed: np.ndarray  # (n,) bool


def queries(views: Views, *, first: int, recent: int) -> Queries:
    """What there is to ask of a walk from frame `first` on."""
    times = np.arange(first, len(views.poses) - max(AHEAD), STEP)
    seen = np.stack([_seen(views, int(now)) for now in times])
    missing = np.stack([_missing(row, int(now), recent) for row, now in zip(seen, times, strict=True)])
    is_needed = missing.mean(1) >= NEEDED
    found = (seen & missing[:, None]).sum(2) >= LEAST * missing.sum(1, keepdims=True)
    is_old = np.arange(len(views.poses)) < times[:, None] - recent
    return Queries(times, found & is_old & is_needed[:, None], seen, is_needed)


def retrieval_figures(
    case: Case, asked: Queries, recall: Recall, *, poses: Poses, recent: int, num: int = 5
) -> dict[str, float]:
    """Figures of what `recall` answers to the queries `asked` of a walk."""
    record = case.whole_record(poses)
    recalled = [list(recall(record, int(now)))[:num] for now in asked.times]
    ranks = [_rank(ids, row) for ids, row in zip(recalled, asked.right, strict=True)]
    can_find = np.asarray(asked.right.any(1))
    answerable = [ranks[i] for i in np.flatnonzero(can_find)]
    rows = [(asked.seen[i], int(asked.times[i]), recalled[i]) for i in np.flatnonzero(asked.is_needed)]
    return {
        "needed": float(asked.is_needed.mean()),
        "recall_at_1": _mean([rank == 1 for rank in answerable]),
        "recall_at_5": _mean([0 < rank <= 5 for rank in answerable]),
        "mrr": _mean([1 / rank if rank else 0.0 for rank in answerable]),
        "delay": _mean(delays([rank > 0 for rank in ranks], can_find.tolist())),
        "coverage": _mean([_covered(row, [*range(now - recent, now), *ids]) for row, now, ids in rows]),
        "coverage_recent": _mean([_covered(row, range(now - recent, now)) for row, now, _ in rows]),
        "coverage_all": _mean([_covered(row, range(now)) for row, now, _ in rows]),
    }


def delays(found: Sequence[bool], can_find: Sequence[bool]) -> list[float]:
    """For each stretch of `can_find`, frames from its first query to the first `found`, or its length."""
    waits: list[float] = []
    start = None
    for i, (is_found, is_there) in enumerate([*zip(found, can_find, strict=True), (False, False)]):
        if is_there and start is None:
            start, waiting = i, True
        if start is not None and waiting and (is_found or not is_there):
            waits.append(float((i - start) * STEP))
            waiting = False
        if not is_there:
            start = None
    return waits


def _rank(ids: Sequence[int], right: np.ndarray) -> int:
    """Place of the first right memory, from 1; 0 if there is none."""
    return next((place for place, id in enumerate(ids, 1) if right[id]), 0)


def _seen(views: Views, now: int) -> np.ndarray:
    """Which frames before `now` see each wall point of the views from then on: (T, points) bool."""
    points = wall_points(Camera(), views.at(now + np.array(AHEAD))).reshape(-1, 2)
    seen = np.zeros((len(views.poses), len(points)), bool)
    seen[:now] = sees(Camera(), views.at(slice(0, now)), points)
    return seen


def _missing(seen: np.ndarray, now: int, recent: int) -> np.ndarray:
    """Points (points,) bool of `seen` (T, points) that old frames saw and none of the `recent` before `now` did."""
    return np.asarray(seen[: now - recent].any(0) & ~seen[now - recent : now].any(0))


def _covered(seen: np.ndarray, frames: Sequence[int]) -> float:
    return float(seen[list(frames)].any(0).mean()) if len(frames) else 0.0


def _mean(values: Sequence[float | bool]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
