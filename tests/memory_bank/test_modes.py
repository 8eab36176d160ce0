"""Each way to recall on a walk there and back, where it is known what each should find."""

import math
from itertools import pairwise

import numpy as np
import pytest

from memory_bank import BankConfig, MemoryBank, PoseScale, Query, QueryError, Recall, Tuning
from memory_bank.modes import MODES, NEARBY
from tests.memory_bank.worlds import (
    FORWARD,
    KEY_SIZE,
    LATENT_SHAPE,
    STEP,
    bank_of,
    filled_bank,
    keys_at,
    latents_at,
    random_keys,
    there_and_back,
)

POSES = there_and_back()
NOW = len(POSES) - 1
AGAIN = NOW - (FORWARD // 2 - 1)  # where the second walk ahead begins
CONTEXT = frozenset({0, *range(NOW - 8, NOW + 1)})
AHEAD = POSES[NOW] + np.asarray([[3 * STEP, 0, 0], [6 * STEP, 0, 0], [9 * STEP, 0, 0]], np.float32)


@pytest.fixture(scope="module")
def bank() -> MemoryBank:
    return bank_of(POSES)


def query(**changes: object) -> Query:
    """At the end of the walk, half the way ahead for the second time."""
    options = {"index": NOW, "key": keys_at(POSES[-1:])[0], "num": 4, "context": CONTEXT} | changes
    return Query(**options)  # type: ignore[arg-type]


def poses_of(bank: MemoryBank, recall: Recall) -> np.ndarray:
    assert not recall.gated
    assert {why.mode for why in recall.why} <= set(MODES)
    return bank.gather(recall.ids).poses


def test_sequel_returns_the_views_ahead(bank):
    recall = bank.recall(query(num=2, tuning=Tuning(num_anchors=1)))
    first_walk = NOW - AGAIN  # where the same place was passed the first time
    assert recall.ids == (first_walk + 4, first_walk + 12)
    assert [(why.mode, why.anchor) for why in recall.why] == [("sequel", first_walk)] * 2
    x, y, heading = poses_of(bank, recall).T
    np.testing.assert_allclose(x - POSES[NOW, 0], [4 * STEP, 12 * STEP], atol=1e-5)
    np.testing.assert_allclose(heading, 0.0)


def test_anchors_of_sequel_are_apart_and_never_repeat_a_memory(bank):
    recall = bank.recall(query(num=8, tuning=Tuning(anchor_gap=10)))
    anchors = sorted({why.anchor for why in recall.why if why.mode == "sequel"})
    assert len(anchors) >= 3
    assert all(b - a >= 10 for a, b in pairwise(anchors))
    assert len(set(recall.ids)) == 8


def test_sequel_takes_the_next_view_that_was_stored_when_the_bank_refused_some():
    sparse = bank_of(POSES, novelty=0.97)
    assert len(sparse) < 0.7 * len(POSES)
    recall = sparse.recall(query(num=2))
    x, _, heading = poses_of(sparse, recall).T
    assert (x > POSES[NOW, 0]).all()
    assert (np.abs(heading) < 0.1).all()


def sparse_bank(*indices: int) -> MemoryBank:
    """A bank that was offered nothing between `indices`; the key of each is one of `random_keys`."""
    bank = MemoryBank(BankConfig(key_size=KEY_SIZE, latent_shape=LATENT_SHAPE, novelty=2.0))
    for index, key in zip(indices, random_keys(len(indices), seed=0), strict=True):
        bank.remember(index=index, key=key, latent=np.zeros(LATENT_SHAPE))
    return bank


@pytest.mark.parametrize(
    ("next_index", "followers"),
    [
        (16, {16}),  # nearer to both offsets than the anchor, but for the first
        (52, {52}),  # 30 after the later offset
        (53, set()),
    ],
)
def test_a_follower_comes_after_its_anchor_and_not_much_later(next_index, followers):
    recall = sparse_bank(0, 10, next_index).recall(
        query(index=200, key=random_keys(3, seed=0)[1], context=frozenset(), tuning=Tuning(num_anchors=1))
    )
    assert {entry for entry, why in zip(recall.ids, recall.why, strict=True) if why.mode == "sequel"} == followers


def test_pose_returns_the_nearest_view_to_each_expected_pose_in_turn(bank):
    recall = bank.recall(query(mode="pose", poses=AHEAD, num=6, tuning=Tuning(diversity=1.0)))
    x, _, heading = poses_of(bank, recall).T
    np.testing.assert_allclose(x[:3], AHEAD[:, 0], atol=1e-5)
    np.testing.assert_allclose(x[3:], AHEAD[:, 0], atol=1.01 * STEP)
    np.testing.assert_allclose(heading, 0.0)
    assert all(why.pose > 0.8 for why in recall.why)


def test_pose_counts_a_full_turn_as_none(bank):
    turned = AHEAD + np.asarray([0, 0, 4 * math.pi], np.float32)
    recall = bank.recall(query(mode="pose", poses=turned, num=3, tuning=Tuning(diversity=1.0)))
    np.testing.assert_allclose(poses_of(bank, recall)[:, 0], AHEAD[:, 0], atol=1e-5)


def test_view_returns_what_shows_the_most_together():
    places = np.asarray([(0, 0, 3), (0, 0, 0.6), (0, 0, 0.1), (0.4, 0, 0), (0, 0, -0.6), (0, 0, 2)], np.float32)
    bank = bank_of(places)
    ask = {"mode": "view", "poses": np.zeros((1, 3)), "field_of_view": 1.3, "index": 6, "context": frozenset({0})}
    recall = bank.recall(query(**ask))
    assert not recall.gated and recall.ids[0] == 2
    assert set(recall.ids[1:3]) == {1, 4}  # to the left and to the right; by the pose alone 3 is nearer
    assert recall.why[0].mode == "view" and recall.why[3].mode == "log"
    assert list(recall.scores) == sorted(recall.scores, reverse=True)


def test_view_looks_first_for_what_comes_first():
    bank = bank_of(np.asarray([(0, 0, 3), (0, 0, 0), (0, 0, 1.5)], np.float32))
    ask = {"mode": "view", "field_of_view": 1.3, "index": 3, "num": 1, "context": frozenset({0})}
    both = np.asarray([(0, 0, 1.5), (0, 0, 0)], np.float32)
    assert bank.recall(query(**ask, poses=both)).ids == (2,)
    assert bank.recall(query(**ask, poses=both[::-1])).ids == (1,)


@pytest.mark.parametrize(("turned_away", "is_looked_at"), [(NEARBY - 1, True), (NEARBY, False)])
def test_view_looks_at_the_nearest_poses_only(turned_away, is_looked_at):
    """One memory shows the view, and stands further off than many that show nothing of it."""
    places = np.asarray([(1, 0, 0), *[(0, 0, math.pi)] * turned_away], np.float32)
    bank = bank_of(places, pose_scale=PoseScale(distance=0.1))
    ask = {"mode": "view", "poses": np.zeros((1, 3)), "field_of_view": 1.3, "num": 1, "context": frozenset()}
    recall = bank.recall(query(**ask, index=len(places)))
    assert recall.gated != is_looked_at
    assert (recall.ids == (0,)) == is_looked_at


def test_view_recalls_by_age_when_nothing_is_seen():
    bank = bank_of(POSES)
    recall = bank.recall(query(mode="view", poses=AHEAD + np.float32(50), field_of_view=1.3))
    assert recall.gated
    assert {why.mode for why in recall.why} == {"log"}


def test_pose_with_a_field_of_view_prefers_who_sees_the_same():
    same, turned, behind = (0, 0, 0), (0, 0, 1.2), (-1.21 * 6 / math.pi, 0, 0)
    standing = np.asarray([same, turned, behind], np.float32)
    bank = bank_of(standing)
    tuning = Tuning(diversity=1.0, threshold=0.0)
    ask = {"mode": "pose", "poses": standing[:1], "num": 1, "index": 3, "context": frozenset({0}), "tuning": tuning}
    assert bank.recall(query(**ask)).ids == (1,)  # by distance and turning alone it is a little nearer
    assert bank.recall(query(**ask, field_of_view=1.3)).ids == (2,)


def test_pose_recalls_by_age_when_nothing_is_near(bank):
    recall = bank.recall(query(mode="pose", poses=AHEAD + np.float32(50)))
    assert recall.gated
    assert {why.mode for why in recall.why} == {"log"}


def test_similar_returns_what_looks_like_now(bank):
    recall = bank.recall(query(mode="similar"))
    similarity = keys_at(POSES) @ keys_at(POSES[-1:])[0]
    allowed = [i for i in np.argsort(-similarity, kind="stable").tolist() if i not in CONTEXT]
    assert recall.ids == tuple(allowed[:4])


def test_draft_finds_what_its_key_shows(bank):
    recall = bank.recall(query(mode="draft", key=keys_at(AHEAD[-1:])[0], tuning=Tuning(diversity=1.0)))
    x, _, heading = poses_of(bank, recall).T
    assert abs(x[0] - AHEAD[-1, 0]) < 1e-5
    assert heading[0] == 0.0


def test_hybrid_weighs_likeness_by_recency(bank):
    ask = {"mode": "hybrid", "latent": latents_at(POSES[-1:])[0], "num": 1}
    assert bank.recall(query(**ask, tuning=Tuning(lambda_time=0.0))).ids == (NOW - AGAIN,)
    assert bank.recall(query(**ask, tuning=Tuning(lambda_time=9.0))).ids == (NOW - 9,)


def test_fov_covers_the_view_ahead_and_does_not_repeat_itself(bank):
    recall = bank.recall(query(mode="fov", poses=AHEAD, field_of_view=1.3))
    x, _, heading = poses_of(bank, recall).T
    assert abs(heading[0]) < 0.7  # looks the same way
    assert recall.scores[0] > 0.4 > recall.scores[1]  # what is covered counts no more
    assert list(recall.scores) == sorted(recall.scores, reverse=True)


def test_fov_prefers_the_newer_of_two_equal_views():
    bank = bank_of(np.repeat(AHEAD[:1], 5, axis=0))
    ask = query(mode="fov", poses=AHEAD[:1], field_of_view=1.3, index=5, num=1, context=frozenset({0, 4}))
    assert bank.recall(ask).ids == (3,)


def test_pose_passes_over_what_has_no_pose():
    recall = sparse_bank(0, 1, 2).recall(query(mode="pose", poses=AHEAD, index=3, tuning=Tuning(threshold=0.0)))
    assert {why.mode for why in recall.why} == {"log"}


def test_a_short_shortlist_reaches_beyond_the_context():
    keys = random_keys(20, seed=0)
    closest = np.argsort(-(keys @ keys[0])).tolist()
    ask = query(mode="similar", key=keys[0], num=3, context=frozenset(closest[:6]), tuning=Tuning(shortlist=1))
    recall = sparse_bank(*range(20)).recall(ask)
    assert recall.ids == tuple(closest[6:9])
    assert {why.mode for why in recall.why} == {"similar"}


def test_recent_returns_the_newest_outside_the_context(bank):
    assert bank.recall(query(mode="recent")).ids == (NOW - 9, NOW - 10, NOW - 11, NOW - 12)


def test_log_spaces_ages_geometrically_from_the_newest_to_the_start(bank):
    ages = [NOW - i for i in bank.recall(query(mode="log", num=5, context=CONTEXT - {0})).ids]
    assert ages[0] == 9
    assert ages[-1] == NOW
    ratios = [b / a for a, b in pairwise(ages)]
    assert max(ratios) / min(ratios) < 1.15


def test_random_depends_on_the_seed_and_the_index_alone():
    banks = [bank_of(POSES, seed=seed) for seed in (5, 5, 6)]
    one, same, other = ([bank.recall(query(mode="random", index=NOW + i)).ids for i in range(3)] for bank in banks)
    assert one == same != other
    assert len(set(one)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "pose"}, "expected poses of shape"),
        ({"mode": "pose", "poses": np.zeros((0, 3))}, "expected poses of shape"),
        ({"mode": "fov", "poses": AHEAD}, "expected a field_of_view"),
        ({"mode": "view", "poses": AHEAD}, "expected a field_of_view and a bank with rays"),
        ({"mode": "hybrid"}, "expected a latent of shape"),
        ({"mode": "hybrid", "latent": np.zeros((1, 2, 3))}, "expected a latent of shape"),
        ({"mode": "telepathy"}, "expected one of the modes sequel, view"),
        ({"key": np.zeros(3, np.float32)}, "expected a key of shape"),
        ({"num": 0}, "expected to recall at least 1 entry"),
    ],
)
def test_a_query_that_lacks_something_says_what(bank, changes, message):
    with pytest.raises(QueryError, match=message):
        bank.recall(query(**changes))


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_answers_for_any_number_of_entries(mode):
    key = random_keys(1, seed=4)[0]
    for num in (0, 1, 2, 7):
        ask = query(mode=mode, key=key, poses=AHEAD, field_of_view=1.3, latent=latents_at(AHEAD[:1])[0], index=num)
        recall = filled_bank(num, seed=num).recall(ask)
        assert len(recall.ids) == min(len(set(range(num)) - CONTEXT), 4)
