"""The rows against a plain model of them: what is put in, taken out and looked up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_bank import BankConfig, UnknownEntryError
from memory_bank.entries import Entries
from memory_bank.query import NO_ID
from tests.memory_bank.worlds import KEY_SIZE, LATENT_SHAPE, random_keys

CAPACITY = 16
id_sets = st.sets(st.integers(0, 60), min_size=1, max_size=CAPACITY)


def entries_of(ids: set[int], keys: np.ndarray) -> Entries:
    """Entries with the given `keys`, each with its true twin, and itself as pose and payload."""
    entries = Entries(BankConfig(key_size=KEY_SIZE, latent_shape=LATENT_SHAPE, capacity=CAPACITY))
    for entry, key in zip(sorted(ids), keys, strict=False):
        [(twins, cosines)] = entries.nearest(key[None], 1)
        twin, cosine = (twins[0], cosines[0]) if len(twins) else (NO_ID, -np.inf)
        values = {"ids": entry, "keys": key, "latents": float(entry), "poses": float(entry), "sights": float(entry)}
        entries.add(values | {"twin_ids": twin, "twin_cos": cosine})
    return entries


@given(ids=id_sets, gone=st.sets(st.integers(0, 60)), seed=st.integers(0, 99))
def test_what_is_not_removed_stays_as_it_was(ids, gone, seed):
    keys = random_keys(CAPACITY, seed=seed)
    entries = entries_of(ids, keys)
    for entry in sorted(ids & gone, key=lambda entry: entry % 7):
        entries.remove(entry)
    left = sorted(ids - gone)
    assert entries.ids.tolist() == left
    gathered = entries.gather(np.asarray(left, np.int64))
    assert gathered.indices.tolist() == left
    assert (gathered.latents.astype(int) == np.asarray(left).reshape(-1, 1, 1, 1)).all()
    assert (gathered.poses.astype(int) == np.asarray(left).reshape(-1, 1)).all()
    expected = keys[[sorted(ids).index(entry) for entry in left]]
    assert np.array_equal(entries.keys_of(np.asarray(left, np.int64)), expected)


@given(ids=id_sets, asked=st.lists(st.integers(0, 60)))
def test_it_knows_what_it_holds(ids, asked):
    entries = entries_of(ids, random_keys(CAPACITY, seed=0))
    assert entries.holds(np.asarray(asked, np.int64)).tolist() == [entry in ids for entry in asked]


def test_an_unknown_id_is_named():
    entries = entries_of({1, 5}, random_keys(CAPACITY, seed=0))
    with pytest.raises(UnknownEntryError, match="got 4"):
        entries.rows_of(np.asarray([5, 4], np.int64))


@given(ids=id_sets, target=st.floats(-5, 65), taken=st.sets(st.integers(0, 60)), after=st.integers(-1, 60))
def test_closest_is_the_nearest_that_is_allowed_the_older_of_two(ids, target, taken, after):
    allowed = sorted(entry for entry in ids - taken if entry > after)
    expected = min(allowed, key=lambda entry: abs(entry - target), default=NO_ID)
    assert entries_of(ids, random_keys(CAPACITY, seed=0)).closest(target, taken=taken, after=after) == expected


@given(ids=id_sets, kinds=st.lists(st.integers(0, 2), min_size=CAPACITY, max_size=CAPACITY), num=st.integers(0, 20))
def test_nearest_is_sorted_by_cosine_and_ties_by_id(ids, kinds, num):
    prototypes = random_keys(3, seed=1)
    entries = entries_of(ids, prototypes[kinds])
    for entry in sorted(ids)[1::4]:
        entries.remove(entry)
    left = entries.ids.tolist()
    cosines = dict(zip(sorted(ids), (prototypes[kinds] @ prototypes[0]).round(5).tolist(), strict=False))
    [(found, scores)] = entries.nearest(prototypes[:1], num)
    assert found.tolist() == sorted(left, key=lambda entry: (-cosines[entry], entry))[:num]
    np.testing.assert_allclose(scores, [cosines[entry] for entry in found], atol=1e-4)


@given(ids=st.sets(st.integers(0, 60), min_size=4, max_size=CAPACITY), data=st.data(), seed=st.integers(0, 99))
def test_the_most_redundant_is_the_newer_of_the_most_similar_pair_also_after_removals(ids, data, seed):
    keys = random_keys(CAPACITY, seed=seed, size=KEY_SIZE)
    entries, by_id = entries_of(ids, keys), dict(zip(sorted(ids), keys, strict=False))
    gone = data.draw(st.sets(st.sampled_from(sorted(ids)), max_size=len(ids) - 3))
    for entry in gone:
        entries.remove(entry)
    left = sorted(ids - gone)
    pairs = [(float(by_id[a] @ by_id[b]), b) for i, b in enumerate(left) for a in left[:i]]
    cosine, newer = max(pairs)
    found = entries.most_redundant()
    assert found[0] == newer
    assert found[1] == pytest.approx(cosine, abs=1e-5)


def test_of_equal_pairs_the_newest_entry_goes():
    keys = random_keys(2, seed=3)
    entries = entries_of({1, 2, 3, 4, 9}, keys[[0, 1, 0, 1, 0]])
    assert entries.most_redundant()[0] == 9
