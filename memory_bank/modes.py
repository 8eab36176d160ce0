"""What a query is offered, by mode: each mode is a function from the entries to candidates with scores."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .entries import Entries
from .pose import closeness, pose_gap, sees, view_points
from .query import NO_ID, Query, QueryError
from .score import hybrid_similarity, pixel_cosine, time_reach, time_similarity
from .sight import COLUMNS, pick, worth

# m candidates · d key size · P target poses

_NUM_VIEW_POINTS = 96  # per target pose
_AGE_WEIGHT = 0.2  # of WorldMem's confidence: overlap - 0.2 age
NEARBY = 512  # entries that 'view' looks at, the nearest by pose
_LATER = 0.3  # weight, in 'view', of expected poses after the first
_LEAST_GAIN = 1e-4  # of what 'view' expects to see; a memory that adds less is none


class Matches(NamedTuple):
    """The nearest entries by key, best first."""

    ids: np.ndarray  # (m,) int64
    scores: np.ndarray  # (m,) float32 cosines


class Candidates(NamedTuple):
    """Entries to choose from; one may stand in several groups."""

    ids: np.ndarray  # (m,) int64
    scores: np.ndarray  # (m,) float64, higher is better
    groups: np.ndarray  # (m,) int64: the budget is dealt out to the groups in turn
    anchors: np.ndarray  # (m,) int64: the entry that led here, or NO_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A way to recall; `Tuning` may overrule the last two."""

    propose: Callable[[Entries, Query, Matches], Candidates]
    num_shortlists: int = 0  # matches by key that it needs
    diversity: float = 1.0
    threshold: float = -math.inf


def log_spaced(entries: Entries, *, now: int, num: int, taken: frozenset[int] | set[int]) -> list[int]:
    """Up to `num` ids whose ages grow geometrically, newest first, none `taken`."""
    newest = entries.closest(now, taken=taken)
    if newest == NO_ID or num < 1:
        return []
    ages = np.geomspace(max(now - newest, 1), max(now - int(entries.ids[0]), 1), num)
    chosen: list[int] = []
    for age in ages:
        found = entries.closest(now - age, taken=taken | set(chosen))
        if found != NO_ID:
            chosen.append(found)
    return sorted(chosen, reverse=True)


def _similar(_entries: Entries, query: Query, matches: Matches) -> Candidates:
    """What looks most like the query's key (LongLive-RAG, with the newest latent's)."""
    keep = np.asarray([entry not in query.context for entry in matches.ids.tolist()], bool)
    return _single_group(matches.ids[keep], matches.scores[keep])


def _hybrid(entries: Entries, query: Query, matches: Matches) -> Candidates:
    """Eq. 5 over the shortlist by key and all that is recent enough for Eq. 4 to count.

    Exact if the key ranks as Eq. 3 does (`eq3_key`) or the shortlist holds the bank: what is in neither set has a time
    term below 1e-7 and at least `num` entries with a higher cosine before it.
    """
    if query.latent is None or query.latent.shape != entries.config.latent_shape:
        got = "none" if query.latent is None else query.latent.shape
        raise QueryError(f"expected a latent of shape {entries.config.latent_shape} for mode 'hybrid', got {got}")
    rate, weight = entries.config.rate, query.tuning.lambda_time
    reach = time_reach(weight) * rate
    low, high = np.searchsorted(entries.ids, (query.index - reach, query.index + reach))
    ids = _without(np.union1d(matches.ids, entries.ids[low:high]), query.context)
    cosine = pixel_cosine(entries.gather(ids).latents, query.latent)
    time = time_similarity(ids / rate, query.index / rate)
    return _single_group(ids, hybrid_similarity(cosine, time, lambda_time=weight))


def _sequel(entries: Entries, query: Query, matches: Matches) -> Candidates:
    """What followed the places that look like the present one: what is likely to come into view.

    An anchor may be in the context, since it is not itself returned.
    """
    tuning = query.tuning
    most = max(tuning.num_anchors, math.ceil(query.num / len(tuning.offsets)))
    anchors: list[int] = []
    found: list[tuple[int, float, int, int]] = []
    for anchor, score in zip(matches.ids.tolist(), matches.scores.tolist(), strict=True):
        if len(anchors) == most:
            break
        if any(abs(anchor - other) < tuning.anchor_gap for other in anchors):
            continue
        followers = [
            (follower, score, offset, anchor)
            for offset in tuning.offsets
            for follower in [entries.closest(anchor + offset, taken=query.context, after=anchor)]
            if follower != NO_ID and abs(follower - anchor - offset) <= tuning.anchor_gap
        ]
        anchors += [anchor] if followers else []
        found += followers
    columns = np.asarray(found, np.float64).reshape(-1, 4).T
    ids, groups, origin = columns[[0, 2, 3]].astype(np.int64)
    return Candidates(ids, columns[1], groups, origin)


def _view(entries: Entries, query: Query, _matches: Matches) -> Candidates:
    """Entries that together show the most of what is expected to be seen, what comes first before what comes later."""
    if query.field_of_view is None or not entries.config.num_rays:
        raise QueryError(f"expected a field_of_view and a bank with rays for mode 'view', got {query.field_of_view}")
    targets, ids = _target_poses(query), _without(entries.ids, query.context)
    if len(ids) > NEARBY:
        gap = pose_gap(entries.column("poses")[entries.rows_of(ids)], targets[0], scale=entries.config.pose_scale)
        ids = np.sort(ids[_best(-gap, ids, NEARBY)])
    rows = entries.rows_of(ids)
    poses, sights = entries.column("poses")[rows], entries.column("sights")[rows]
    worths = worth(poses, sights, targets, field_of_view=query.field_of_view, most=query.tuning.shortlist)
    worths[:, COLUMNS:] *= _LATER
    chosen, gains = pick(worths, num=query.num, least=_LEAST_GAIN)
    return _single_group(ids[chosen], np.asarray(gains))


def _pose(entries: Entries, query: Query, _matches: Matches) -> Candidates:
    """Nearest neighbours of each expected pose; with a field of view, the more of it they see the better."""
    held = entries.column("ids")
    is_allowed = ~np.isin(held, list(query.context))
    ids, scores, groups = [], [], []
    for group, target in enumerate(_target_poses(query)):
        near = closeness(pose_gap(entries.column("poses"), target, scale=entries.config.pose_scale))
        rows = _best(np.where(is_allowed, near, 0.0), held, query.tuning.shortlist)
        rows = rows[is_allowed[rows] & (near[rows] > 0)]
        ids.append(held[rows])
        scores.append(near[rows] * (0.5 + 0.5 * _shared_view(entries, query, target, rows)))
        groups.append(np.full(len(rows), group))
    chosen = np.concatenate(ids)
    return Candidates(chosen, np.concatenate(scores), np.concatenate(groups), np.full_like(chosen, NO_ID))


def _shared_view(entries: Entries, query: Query, target: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Share of what `target` sees that each row sees; 1 where the field of view is not known."""
    if query.field_of_view is None:
        return np.ones(len(rows))
    lens = {"field_of_view": query.field_of_view, "radius": query.tuning.view_radius}
    points = view_points(target, num=_NUM_VIEW_POINTS, **lens)
    return np.asarray(sees(entries.column("poses")[rows], points, **lens).mean(axis=1))


def _fov(entries: Entries, query: Query, _matches: Matches) -> Candidates:
    """WorldMem's greedy: the largest overlap of fields of view, less a little for age; then without what it covered."""
    if query.field_of_view is None:
        raise QueryError("expected a field_of_view for mode 'fov', got none")
    lens = {"field_of_view": query.field_of_view, "radius": query.tuning.view_radius}
    points = [view_points(target, num=_NUM_VIEW_POINTS, **lens) for target in _target_poses(query)]
    ids = _without(entries.ids, query.context)
    covers = sees(entries.column("poses")[entries.rows_of(ids)], np.concatenate(points), **lens)
    age = (query.index - ids) / max(query.index, 1)
    is_open = np.ones(covers.shape[1], bool)
    chosen: list[int] = []
    scores: list[float] = []
    for _ in range(min(query.num, len(ids))):
        confidence = covers[:, is_open].sum(axis=1) / covers.shape[1] - _AGE_WEIGHT * age
        confidence[chosen] = -np.inf
        best = int(np.argmax(confidence))
        chosen.append(best)
        scores.append(float(confidence[best]))
        is_open &= ~covers[best]
    return _single_group(ids[chosen], np.asarray(scores))


def _recent(entries: Entries, query: Query, _matches: Matches) -> Candidates:
    ids = _without(entries.ids[-(query.num + len(query.context)) :], query.context)[-query.num :]
    return _single_group(ids, _freshness(entries, query, ids))


def _log(entries: Entries, query: Query, _matches: Matches) -> Candidates:
    ids = log_spaced(entries, now=query.index, num=query.num, taken=query.context)
    return _single_group(np.asarray(ids, np.int64), _freshness(entries, query, np.asarray(ids, np.int64)))


def _random(entries: Entries, query: Query, _matches: Matches) -> Candidates:
    """Without replacement, by the session's seed and the index: the same query, the same answer."""
    ids = _without(entries.ids, query.context)
    generator = np.random.default_rng((entries.config.seed, query.index))
    chosen = generator.choice(ids, min(query.num, len(ids)), replace=False)
    return _single_group(chosen, np.zeros(len(chosen)))


def _freshness(entries: Entries, query: Query, ids: np.ndarray) -> np.ndarray:
    return closeness(np.abs(query.index - ids) / entries.config.rate)


def _target_poses(query: Query) -> np.ndarray:
    if query.poses is None or query.poses.ndim != 2 or query.poses.shape[1] != 3 or not len(query.poses):
        got = "none" if query.poses is None else f"shape {query.poses.shape}"
        raise QueryError(f"expected poses of shape (P, 3) for mode {query.mode!r}, got {got}")
    return query.poses.astype(np.float64)


def _single_group(ids: np.ndarray, scores: np.ndarray) -> Candidates:
    return Candidates(ids, scores.astype(np.float64), np.zeros(len(ids), np.int64), np.full(len(ids), NO_ID))


def _without(ids: np.ndarray, context: frozenset[int]) -> np.ndarray:
    return ids[~np.isin(ids, list(context))]


def _best(scores: np.ndarray, ids: np.ndarray, num: int) -> np.ndarray:
    """Rows of the `num` highest scores, best first, ties by id."""
    rows = np.arange(len(scores))
    if num < len(scores):
        rows = np.flatnonzero(scores >= np.partition(scores, len(scores) - num)[len(scores) - num])
    return rows[np.lexsort((ids[rows], -scores[rows]))][:num]


MODES = {
    "sequel": Mode(propose=_sequel, num_shortlists=4, diversity=0.7, threshold=0.5),
    "view": Mode(propose=_view),
    "pose": Mode(propose=_pose, diversity=0.7, threshold=0.25),
    "draft": Mode(propose=_similar, num_shortlists=1, diversity=0.7, threshold=0.5),
    "similar": Mode(propose=_similar, num_shortlists=1),
    "hybrid": Mode(propose=_hybrid, num_shortlists=1),
    "fov": Mode(propose=_fov),
    "recent": Mode(propose=_recent),
    "log": Mode(propose=_log),
    "random": Mode(propose=_random),
}
