"""Which of the candidates are recalled: a gate, one pass of diversity against the context, and a reason for each."""

import math
from typing import NamedTuple

import numpy as np

from .entries import Entries
from .modes import MODES, Candidates, Matches, log_spaced
from .pose import closeness, pose_gap
from .query import NO_ID, Query, Why
from .score import time_similarity

# m candidates · c latents of the context · d key size


class Choice(NamedTuple):
    """One candidate that was taken."""

    position: int  # in the candidates
    redundancy: float  # highest cosine with the context and the choices before it


class Selection(NamedTuple):
    """What a recall says, column by column, in order of choice."""

    ids: list[int]
    scores: list[float]
    why: list[Why]
    gated: bool


def select(entries: Entries, query: Query, *, matches: Matches, context_keys: np.ndarray) -> Selection:
    """Recall by the query's mode; by log-spaced ages if nothing scores well enough, or for what is left of the budget.

    `matches` are the nearest by key, as many as the mode needs; `context_keys` (c, d) those of the query's context.
    """
    mode, tuning = MODES[query.mode], query.tuning
    candidates = mode.propose(entries, query, matches)
    threshold = mode.threshold if tuning.threshold is None else tuning.threshold
    gated = not len(candidates.ids) or float(candidates.scores.max()) < threshold
    choices: list[Choice] = []
    if not gated:
        diversity = mode.diversity if tuning.diversity is None else tuning.diversity
        keys = entries.keys_of(candidates.ids)
        choices = choose(candidates, num=query.num, diversity=diversity, keys=keys, context_keys=context_keys)
    ids = [int(candidates.ids[choice.position]) for choice in choices]
    scores = [float(candidates.scores[choice.position]) for choice in choices]
    anchors = [int(candidates.anchors[choice.position]) for choice in choices]
    rest = log_spaced(entries, now=query.index, num=query.num - len(ids), taken=query.context | set(ids))
    modes = [query.mode] * len(ids) + ["log"] * len(rest)
    redundancy = [choice.redundancy for choice in choices] + [0.0] * len(rest)
    parts = _parts(entries, query, np.asarray(ids + rest, np.int64))
    labels = zip(modes, anchors + [NO_ID] * len(rest), *parts.T.tolist(), redundancy, strict=True)
    why = [Why(mode=mode, anchor=a, cos=c, time=t, pose=p, mmr=r) for mode, a, c, t, p, r in labels]
    return Selection(ids + rest, scores + [0.0] * len(rest), why, gated)


def choose(
    candidates: Candidates, *, num: int, diversity: float, keys: np.ndarray, context_keys: np.ndarray
) -> list[Choice]:
    """Maximal marginal relevance, the groups taking turns: diversity * score - (1 - diversity) * redundancy.

    `keys` (m, d) are the candidates'. No id is chosen twice; ties go to the lower id.
    """
    redundancy = _highest_cosine(keys, context_keys) if diversity < 1 else np.zeros(len(keys))
    is_open = np.ones(len(keys), bool)
    groups = sorted(set(candidates.groups.tolist()))
    choices: list[Choice] = []
    while groups and len(choices) < num:
        group = groups.pop(0)
        offered = np.flatnonzero(is_open & (candidates.groups == group))
        if not len(offered):
            continue
        groups.append(group)
        values = diversity * candidates.scores[offered] - (1 - diversity) * redundancy[offered]
        best = int(offered[np.lexsort((candidates.ids[offered], -values))[0]])
        choices.append(Choice(best, float(redundancy[best])))
        is_open &= candidates.ids != candidates.ids[best]
        if diversity < 1:
            redundancy = np.maximum(redundancy, _highest_cosine(keys, keys[best : best + 1]))
    return choices


def _highest_cosine(keys: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(m, d) keys to (c, d) others -> (m,), at least 0."""
    # No BLAS: its threads would fight the model's for the cores, and rows that are equal must score equal.
    return np.asarray(np.einsum("md,cd->mc", keys, others).max(axis=1, initial=0.0))


def _parts(entries: Entries, query: Query, ids: np.ndarray) -> np.ndarray:
    """Cosine, time and pose similarity of `ids` to the query: (n, 3)."""
    rate = entries.config.rate
    cosine = np.einsum("nd,d->n", entries.keys_of(ids), query.key)
    gaps = np.full((1, len(ids)), math.inf)
    if query.poses is not None:
        poses = entries.column("poses")[entries.rows_of(ids)]
        gaps = np.stack([pose_gap(poses, target, scale=entries.config.pose_scale) for target in query.poses])
    return np.stack([cosine, time_similarity(ids / rate, query.index / rate), closeness(gaps.min(axis=0))], axis=1)
