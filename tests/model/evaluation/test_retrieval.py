"""Retrieval on a walk whose right answers are known: perfect, useless and late recall."""

import numpy as np
import pytest

from model.evaluation.retrieval import STEP, delays, queries, retrieval_figures
from model.evaluation.sight import Views, reach_of
from model.rooms.camera import Camera

from ..rooms.small import rooms
from .synthetic import ROOM, case_of

FIRST, RECENT = 60, 19


def turning_walk() -> np.ndarray:
    """Look one way for 60 frames, the other way for 60, then again the first way: memory is needed at the turn."""
    headings = np.concatenate([np.zeros(60), np.full(60, np.pi), np.zeros(60)])
    return np.stack([np.full(180, 4.0), np.full(180, 4.0), headings], 1)


@pytest.fixture(scope="module")
def asked():
    poses = turning_walk()
    return queries(Views(poses, reach_of(Camera(), poses, ROOM, farthest=12.0)), first=FIRST, recent=RECENT)


@pytest.fixture(scope="module")
def case():
    still = turning_walk()
    still[:, 2] = 0.0  # the video stands still; its views do not matter here
    return case_of(rooms(), still, first=FIRST)


def test_memory_is_needed_while_the_recent_frames_look_the_other_way(asked):
    needed = asked.times[asked.is_needed]
    assert needed.min() >= 120 - 8 and needed.max() < 120 + RECENT
    right = asked.right[list(asked.times).index(120)]
    assert right[:60].all() and not right[60:].any()


def test_the_right_memories_cover_what_is_to_come(asked, case):
    row = retrieval_figures(case, asked, lambda _record, _now: [10, 20], poses="true", recent=RECENT)
    assert row["recall_at_1"] == row["recall_at_5"] == row["mrr"] == 1.0 and row["delay"] == 0
    assert row["coverage"] == pytest.approx(1, abs=0.01) == row["coverage_all"]
    assert row["coverage_recent"] < 0.75


def test_useless_memories_add_nothing(asked, case):
    row = retrieval_figures(case, asked, lambda _record, _now: [90, 91], poses="true", recent=RECENT)
    assert row["recall_at_5"] == row["mrr"] == 0.0 and row["coverage"] == row["coverage_recent"]


def test_rank_and_lateness_count(asked, case):
    row = retrieval_figures(
        case, asked, lambda _record, now: [90, 10] if now >= 120 else [90], poses="true", recent=RECENT
    )
    late = sum(asked.times[asked.is_needed] < 120)
    assert 0 < row["recall_at_5"] < 1 and row["recall_at_1"] == 0 < late
    assert row["mrr"] == pytest.approx(row["recall_at_5"] / 2) and row["delay"] == late * STEP


def test_delays_run_from_need_to_find_or_to_the_end_of_need():
    found = [True, False, False, True, True, False, False, False]
    need = [False, True, True, True, True, False, True, True]
    assert delays(found, need) == [2 * STEP, 2 * STEP]
    assert delays([], []) == []
