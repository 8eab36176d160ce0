"""What a bank keeps and gives back, whatever it is shown and asked."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_bank import (
    BankConfig,
    EntryError,
    MemoryBank,
    PinnedEntryError,
    Query,
    Tuning,
    UnknownEntryError,
    eq3_key,
    recall_batch,
)
from memory_bank.modes import MODES
from memory_bank.score import hybrid_similarity, pixel_cosine, time_similarity
from tests.memory_bank.worlds import KEY_SIZE, LATENT_SHAPE, bank_of, filled_bank, random_keys, random_latents, unit

modes = st.sampled_from(sorted(MODES))


def walk(num: int, *, seed: int) -> np.ndarray:
    """Poses of a smooth random walk that comes back now and then."""
    turns = np.random.default_rng(seed).uniform(-0.6, 0.6, num).cumsum()
    steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * 0.3
    return np.concatenate([steps.cumsum(axis=0), turns[:, None]], axis=1).astype(np.float32)


def ask(mode: str, *, index: int, seed: int, context: frozenset[int] = frozenset(), num: int = 5) -> Query:
    generator = np.random.default_rng(seed)
    return Query(
        index=index,
        key=random_keys(1, seed=seed)[0],
        latent=random_latents(1, seed=seed)[0],
        num=num,
        context=context,
        mode=mode,  # type: ignore[arg-type]
        poses=generator.uniform(-2, 2, (3, 3)).astype(np.float32),
        field_of_view=1.3,
        tuning=Tuning(threshold=-9.0, anchor_gap=5),
    )


# what a recall may return


@pytest.mark.parametrize("mode", sorted(MODES))
@settings(max_examples=25)
@given(num=st.integers(1, 60), data=st.data(), seed=st.integers(0, 99))
def test_a_recall_never_returns_the_context_or_what_was_forgotten(mode, num, data, seed):
    bank = bank_of(walk(num, seed=seed), capacity=48)
    gone = data.draw(st.sets(st.integers(1, 70)))
    context = data.draw(st.frozensets(st.integers(0, 70)))
    bank.forget(gone)
    recall = bank.recall(ask(mode, index=num, seed=seed, context=context, num=data.draw(st.integers(1, 12))))
    assert len(set(recall.ids)) == len(recall.ids) == len(recall.scores) == len(recall.why)
    assert not set(recall.ids) & (gone | context)
    assert all(entry in bank for entry in recall.ids)


@settings(max_examples=40)
@given(mode=modes, num=st.integers(0, 40), wanted=st.integers(1, 50), seed=st.integers(0, 99))
def test_a_recall_gives_as_many_as_there_are(mode, num, wanted, seed):
    context = frozenset(range(0, num, 3))
    recall = bank_of(walk(num, seed=seed)).recall(ask(mode, index=num, seed=seed, context=context, num=wanted))
    assert len(recall.ids) == min(wanted, num - len(context))


@settings(max_examples=40)
@given(chosen=st.lists(st.tuples(st.integers(0, 2), modes), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_a_batch_answers_as_one_by_one(chosen, seed):
    banks = [bank_of(walk(20 + 30 * i, seed=seed + i)) for i in range(3)]
    pairs = [
        (banks[place], ask(mode, index=90, seed=i, context=frozenset(range(i, 90, 7)), num=1 + i))
        for i, (place, mode) in enumerate(chosen)
    ]
    together = recall_batch([bank for bank, _ in pairs], [query for _, query in pairs])
    assert together == [bank.recall(query) for bank, query in pairs]


@settings(max_examples=20)
@given(mode=modes, seed=st.integers(0, 99))
def test_equal_histories_give_equal_recalls_and_asking_changes_nothing(mode, seed):
    one, other = (bank_of(walk(80, seed=seed), capacity=32, novelty=0.95, seed=3) for _ in range(2))
    query = ask(mode, index=80, seed=seed)
    before = one.stats()
    assert one.recall(query) == one.recall(query) == other.recall(query)
    assert one.stats() == before == other.stats()


@given(copies=st.integers(6, 90), num=st.integers(1, 5))
def test_entries_that_score_the_same_come_by_id(copies, num):
    poses = np.repeat(np.asarray([[1, 2, 0.5]], np.float32), copies, axis=0)
    bank = bank_of(poses)
    for mode in ("similar", "hybrid", "pose"):
        query = ask(mode, index=10**6, seed=1, num=num)  # so late that no entry is fresher than another
        assert bank.recall(query).ids == tuple(range(num)), mode


def test_recall_says_how_long_it_took_by_the_clock_it_was_given():
    ticks = iter(range(0, 10**9, 7_000))
    bank = MemoryBank(BankConfig(key_size=KEY_SIZE, latent_shape=LATENT_SHAPE), clock_ns=lambda: next(ticks))
    assert bank.recall(ask("similar", index=1, seed=0)).took_us == 14


# Eq. 5 against brute force


def best_by_eq5(latents: np.ndarray, ids: list[int], query: Query) -> tuple[np.ndarray, list[int]]:
    """Scores by id, and the ids of the highest, of every entry that is not in the context."""
    assert query.latent is not None
    cosine = pixel_cosine(latents[ids], query.latent)
    time = time_similarity(np.asarray(ids) / 15, query.index / 15)
    scores = hybrid_similarity(cosine, time, lambda_time=query.tuning.lambda_time)
    order = [i for i in np.lexsort((ids, -scores)) if ids[i] not in query.context]
    return scores[order][: query.num], [ids[i] for i in order][: query.num]


@settings(max_examples=60)
@given(
    lambda_time=st.sampled_from([0.0, 0.1, 0.5, 1.0, 5.0]),
    num=st.integers(1, 200),
    wanted=st.integers(1, 6),
    context=st.frozensets(st.integers(0, 200), max_size=20),
    seed=st.integers(0, 99),
)
def test_hybrid_with_keys_of_eq_3_equals_brute_force_on_a_short_list(lambda_time, num, wanted, context, seed):
    latents = random_latents(num + 1, seed=seed)
    config = BankConfig(key_size=latents[0].size, latent_shape=LATENT_SHAPE, novelty=2.0)
    bank = MemoryBank(config)
    for i in range(num):
        bank.remember(index=i, key=eq3_key(latents[i]), latent=latents[i])
    tuning = Tuning(lambda_time=lambda_time, shortlist=8)
    query = Query(
        index=num,
        key=eq3_key(latents[num]),
        latent=latents[num],
        num=wanted,
        context=context,
        mode="hybrid",
        tuning=tuning,
    )
    scores, ids = best_by_eq5(latents, list(range(num)), query)
    recall = bank.recall(query)
    np.testing.assert_allclose(recall.scores, scores, atol=2e-7)
    distinct = np.abs(np.diff(scores)) > 1e-6  # closer ones may trade places
    if distinct.all():
        assert list(recall.ids)[: len(ids) - 1] == ids[:-1]


@settings(max_examples=30)
@given(lambda_time=st.sampled_from([0.1, 1.0, 5.0]), gone=st.sets(st.integers(1, 99)), seed=st.integers(0, 99))
def test_hybrid_with_any_keys_equals_brute_force_if_the_shortlist_holds_the_bank(lambda_time, gone, seed):
    bank, latents = filled_bank(100, seed=seed), random_latents(100, seed=seed)
    bank.forget(gone)
    query = Query(
        index=100,
        key=random_keys(1, seed=seed + 1)[0],
        latent=random_latents(1, seed=seed + 1)[0],
        num=6,
        mode="hybrid",
        tuning=Tuning(lambda_time=lambda_time, shortlist=100),
    )
    scores, ids = best_by_eq5(latents, sorted(set(range(100)) - gone), query)
    assert bank.recall(query).ids == tuple(ids)
    assert bank.recall(query).scores == tuple(scores)


# what is kept


def test_what_was_stored_is_gathered_in_the_order_asked_for():
    poses = walk(20, seed=0)
    bank = bank_of(poses)
    latents, indices, gathered_poses = bank.gather([7, 0, 19])
    assert (latents.dtype, indices.dtype, gathered_poses.dtype) == (np.float16, np.int64, np.float32)
    assert indices.tolist() == [7, 0, 19]
    assert np.array_equal(gathered_poses, poses[[7, 0, 19]])
    one = bank.gather([0]).latents[0]
    assert np.array_equal(latents[1], one)
    assert bank.gather([]).latents.shape == (0, *LATENT_SHAPE)


def test_without_poses_zeros_are_gathered():
    assert not filled_bank(3, seed=0).gather([1, 2]).poses.any()


def test_a_view_that_is_known_is_refused_and_the_first_stands_for_it():
    bank = MemoryBank(BankConfig(key_size=2, latent_shape=LATENT_SHAPE, novelty=0.9))
    angles = [0.0, 0.4, 0.6, 0.85]  # radians, so cosines of .92 and .83 with the first
    latents = random_latents(4, seed=0)
    stored = [
        bank.remember(index=i, key=np.asarray([np.cos(a), np.sin(a)], np.float32), latent=latents[i])
        for i, a in enumerate(angles)
    ]
    assert stored == [0, 0, 2, 2]
    assert (len(bank), bank.stats().num_refused) == (2, 2)
    assert np.array_equal(bank.gather([2]).latents[0], latents[2])
    assert 1 not in bank


@settings(max_examples=30)
@given(num=st.integers(1, 120), capacity=st.integers(2, 40), gone=st.sets(st.integers(1, 60)), seed=st.integers(0, 99))
def test_the_cap_holds_and_the_start_stays(num, capacity, gone, seed):
    bank = filled_bank(num, seed=seed, capacity=capacity)
    bank.forget(gone)
    keys, latents = random_keys(60, seed=seed + 1), random_latents(60, seed=seed + 1)
    for i in range(60):
        bank.remember(index=num + i, key=keys[i], latent=latents[i])
        assert len(bank) <= capacity
    assert len(bank) == min(capacity, len(bank))
    assert 0 in bank
    stats = bank.stats()
    assert stats.num_entries + stats.num_refused + stats.num_evicted + stats.num_forgotten == num + 60


@settings(max_examples=20)
@given(seed=st.integers(0, 99))
def test_a_full_bank_drops_the_newer_of_the_most_similar_two_and_never_by_age(seed):
    keys, latents = random_keys(40, seed=seed), random_latents(40, seed=seed)
    bank = MemoryBank(BankConfig(key_size=KEY_SIZE, latent_shape=LATENT_SHAPE, capacity=12, novelty=2.0))
    kept: list[int] = []
    for i in range(40):
        bank.remember(index=i, key=keys[i], latent=latents[i])
        kept.append(i)
        if len(kept) > 12:
            kept.remove(max((float(keys[a] @ keys[b]), b) for b in kept for a in kept if a < b)[1])
        assert [entry for entry in range(40) if entry in bank] == kept


def test_a_full_bank_spreads_over_the_places_rather_than_over_the_newest():
    places = random_keys(8, seed=1)
    noise = random_keys(400, seed=2) * 0.1
    visits = [min(i // 20, 7) for i in range(400)]  # the last place for most of the time
    bank = MemoryBank(BankConfig(key_size=KEY_SIZE, latent_shape=LATENT_SHAPE, capacity=16, novelty=2.0))
    for i, place in enumerate(visits):
        bank.remember(index=i, key=unit(places[place] + noise[i]), latent=np.zeros(LATENT_SHAPE, np.float16))
    assert {visits[i] for i in range(400) if i in bank} == set(range(8))


def test_a_full_bank_takes_no_more_memory():
    bank = filled_bank(200, seed=0, capacity=64)
    keys, latents = random_keys(400, seed=1), random_latents(400, seed=1)
    sizes = []
    tracemalloc.start()
    for part in range(2):
        for i in range(200 * part, 200 * part + 200):
            bank.remember(index=200 + i, key=keys[i], latent=latents[i])
            bank.recall(Query(index=200 + i, key=keys[i], num=4))
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[1] - sizes[0] < 2048
    assert bank.stats().num_bytes == filled_bank(1, seed=0, capacity=64).stats().num_bytes


def test_forgetting_says_how_many_were_there_and_removes_them_for_good():
    bank = filled_bank(10, seed=0)
    assert bank.forget([3, 4, 4, 77]) == 2
    assert bank.forget([3]) == 0
    assert 3 not in bank
    assert bank.stats().num_forgotten == 2
    with pytest.raises(UnknownEntryError, match="got 3"):
        bank.gather([2, 3])
    with pytest.raises(EntryError, match="expected an index above 9, got 3"):
        bank.remember(index=3, key=random_keys(1, seed=0)[0], latent=np.zeros(LATENT_SHAPE))


def test_the_start_cannot_be_forgotten_and_nothing_else_is_when_it_is_asked():
    bank = filled_bank(5, seed=0)
    with pytest.raises(PinnedEntryError, match="the start is always kept"):
        bank.forget([2, 0])
    assert len(bank) == 5


def test_of_a_full_bank_s_equal_pairs_the_newest_goes():
    keys = random_keys(3, seed=0)[[0, 1, 1, 1]]
    bank = MemoryBank(BankConfig(key_size=KEY_SIZE, latent_shape=LATENT_SHAPE, capacity=3, novelty=2.0))
    stored = [bank.remember(index=i, key=key, latent=np.zeros(LATENT_SHAPE)) for i, key in enumerate(keys)]
    assert stored == [0, 1, 2, 1]
    assert bank.stats().num_evicted == 0


def test_a_view_like_one_in_the_context_is_redundant_however_old_that_is_until_it_is_forgotten():
    bank, keys = filled_bank(200, seed=0), random_keys(200, seed=0)
    for shown in (30, 190):  # held, and among the newest keys
        query = Query(
            index=199, key=keys[shown], num=1, mode="draft", context=frozenset({shown}), tuning=Tuning(threshold=-1)
        )
        [entry] = bank.recall(query).ids
        assert bank.recall(query).why[0].mmr == pytest.approx(max(float(keys[entry] @ keys[shown]), 0), abs=1e-5)
        bank.forget([shown])
        assert bank.recall(query).why[0].mmr == 0.0


def test_the_context_counts_for_diversity_even_where_its_latents_were_refused():
    keys = random_keys(3, seed=0)
    bank = MemoryBank(BankConfig(key_size=KEY_SIZE, latent_shape=LATENT_SHAPE))
    latent = np.zeros(LATENT_SHAPE, np.float16)
    for i, key in enumerate([keys[0], keys[1], keys[1]]):  # latent 2 is refused
        bank.remember(index=i, key=key, latent=latent)
    query = Query(index=2, key=unit(keys[0] + 1.2 * keys[1]), num=1, mode="draft", tuning=Tuning(threshold=-1))
    assert bank.recall(query).ids == (1,)
    seen = Query(
        index=2,
        key=query.key,
        num=1,
        mode="draft",
        context=frozenset({2}),
        tuning=Tuning(threshold=-1),
    )
    assert bank.recall(seen).ids == (0,)
    assert bank.recall(seen).why[0].mmr == pytest.approx(max(float(keys[0] @ keys[1]), 0), abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": 4}, "expected an index above 4, got 4"),
        ({"key": np.zeros(KEY_SIZE + 1, np.float32)}, "expected a float32 key of shape"),
        ({"key": np.full(KEY_SIZE, 0.5, np.float32)}, "unit length"),
        ({"key": np.full(KEY_SIZE, np.nan, np.float32)}, "unit length"),
        ({"latent": np.zeros((1, 2, 2))}, "expected a latent of shape"),
        ({"pose": np.zeros(2)}, "expected a finite pose"),
        ({"pose": np.asarray([0, 0, np.nan])}, "expected a finite pose"),
        ({"sight": np.zeros(3)}, r"expected a finite sight of shape \(4,\)"),
        ({"sight": np.full(4, np.inf)}, "expected a finite sight"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused_and_changes_nothing(changes, message):
    bank = filled_bank(5, seed=0)
    entry = {"index": 5, "key": random_keys(1, seed=8)[0], "latent": np.zeros(LATENT_SHAPE), "pose": np.zeros(3)}
    with pytest.raises(EntryError, match=message):
        bank.remember(**entry | changes)
    assert len(bank) == 5
    assert bank.remember(**entry) == 5
