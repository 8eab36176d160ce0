"""The choice among candidates, the gate before it and the reasons after it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_bank import Query, Tuning
from memory_bank.modes import Candidates
from memory_bank.selection import choose
from tests.memory_bank.worlds import filled_bank, random_keys

NO_CONTEXT = np.zeros((0, 24), np.float32)


def candidates(scores: list[float], *, groups: list[int] | None = None, ids: list[int] | None = None) -> Candidates:
    num = len(scores)
    return Candidates(
        ids=np.asarray(ids or range(num), np.int64),
        scores=np.asarray(scores, np.float64),
        groups=np.asarray(groups or [0] * num, np.int64),
        anchors=np.full(num, -1),
    )


def positions(offered: Candidates, *, num: int, diversity: float, keys: np.ndarray, context: np.ndarray) -> list[int]:
    choices = choose(offered, num=num, diversity=diversity, keys=keys, context_keys=context)
    return [choice.position for choice in choices]


@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    num=st.integers(1, 14),
    diversity=st.floats(0, 0.99),
    num_context=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_each_choice_has_the_highest_marginal_relevance_left(scores, num, diversity, num_context, seed):
    keys, context = random_keys(len(scores), seed=seed), random_keys(num_context, seed=seed + 1)
    chosen = choose(candidates(scores), num=num, diversity=diversity, keys=keys, context_keys=context)
    assert len(chosen) == min(num, len(scores))
    for turn, (position, redundancy) in enumerate(chosen):
        before = [choice.position for choice in chosen[:turn]]
        known = np.concatenate([context, keys[before]])
        likeness = (keys @ known.T).max(axis=1, initial=0.0)
        assert redundancy == pytest.approx(likeness[position], abs=1e-5)
        values = diversity * np.asarray(scores) - (1 - diversity) * likeness
        assert values[position] >= np.delete(values, before).max() - 1e-5


def test_relevance_alone_sorts_by_score_and_ties_by_id():
    offered = candidates([0.5, 0.9, 0.5, 0.9], ids=[7, 8, 3, 2])
    assert positions(offered, num=4, diversity=1.0, keys=random_keys(4, seed=0), context=NO_CONTEXT) == [3, 1, 2, 0]


def test_what_the_context_shows_already_is_passed_over():
    keys = random_keys(3, seed=0)
    offered = candidates([0.9, 0.8, 0.7])
    assert positions(offered, num=2, diversity=0.7, keys=keys, context=keys[:1]) == [1, 2]
    assert positions(offered, num=2, diversity=0.7, keys=keys[[0, 1, 1]], context=NO_CONTEXT)[1] == 1
    assert positions(candidates([0.9, 0.8, 0.7]), num=2, diversity=0.7, keys=keys[[0, 0, 1]], context=NO_CONTEXT) == [
        0,
        2,
    ]


def test_groups_take_turns_and_pass_when_they_are_empty():
    offered = candidates([0.9, 0.8, 0.7, 0.2, 0.1], groups=[4, 4, 4, 12, 4])
    assert positions(offered, num=4, diversity=1.0, keys=random_keys(5, seed=0), context=NO_CONTEXT) == [0, 3, 1, 2]


def test_an_entry_in_two_groups_is_chosen_once():
    offered = candidates([0.9, 0.8, 0.9, 0.1], groups=[0, 0, 1, 1], ids=[5, 6, 5, 7])
    assert positions(offered, num=9, diversity=1.0, keys=random_keys(4, seed=0), context=NO_CONTEXT) == [0, 3, 1]


@pytest.fixture(scope="module")
def bank():
    return filled_bank(50, seed=0)


def test_below_the_threshold_recall_falls_back_to_log_spaced(bank):
    key = random_keys(1, seed=9)[0]
    best = bank.recall(Query(index=50, key=key, num=4, mode="similar")).scores[0]
    under, over = (
        bank.recall(Query(index=50, key=key, num=4, mode="similar", tuning=Tuning(threshold=best + shift)))
        for shift in (-1e-6, 1e-6)
    )
    assert not under.gated
    assert over.gated
    assert over.ids == bank.recall(Query(index=50, key=key, num=4, mode="log")).ids
    assert {why.mode for why in over.why} == {"log"}


def test_what_is_left_of_the_budget_is_log_spaced(bank):
    key = random_keys(50, seed=0)[20]
    tuning = Tuning(num_anchors=1, anchor_gap=5)
    recall = bank.recall(Query(index=50, key=key, num=7, tuning=tuning, context=frozenset({49})))
    modes = [why.mode for why in recall.why]
    assert modes == sorted(modes, key=("sequel", "log").index)
    assert len(set(recall.ids)) == 7
    assert recall.ids[:2] == (24, 32)
    assert not recall.gated


def test_the_reasons_are_the_parts_of_the_score(bank):
    keys = random_keys(50, seed=0)
    recall = bank.recall(Query(index=53, key=keys[30], num=3, mode="draft", context=frozenset({29, 49})))
    assert recall.ids[0] == 30
    for entry, why in zip(recall.ids, recall.why, strict=True):
        assert why.cos == pytest.approx(float(keys[entry] @ keys[30]), abs=1e-5)
        assert why.time == pytest.approx(np.exp(-(((53 - entry) / 15) ** 2)), abs=1e-6)
        assert why.pose == 0.0
    assert recall.why[0].mmr == pytest.approx(max(0, *(keys[[29, 49]] @ keys[30])), abs=1e-5)
