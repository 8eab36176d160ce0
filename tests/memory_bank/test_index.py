"""Search against brute force, and every way of searching against every other."""

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_bank.index import SEGMENT_KEYS, KeyIndex, SealedSegments, open_segments
from tests.memory_bank.worlds import random_keys


def index_of(keys: np.ndarray, *, segments: SealedSegments | None = None) -> KeyIndex:
    index = KeyIndex(key_size=keys.shape[1], capacity=len(keys), segments=segments)
    for row, key in enumerate(keys):
        index.write(row, key)
    return index


def cpu_segments(size: int) -> SealedSegments:
    """The GPU's path with FAISS's CPU index in its place."""
    return SealedSegments(lambda: faiss.IndexFlatIP(size))


@given(num_keys=st.integers(1, 60), num=st.integers(1, 70), seed=st.integers(0, 999))
def test_search_finds_what_brute_force_finds(num_keys, num, seed):
    keys, queries = random_keys(num_keys, seed=seed), random_keys(3, seed=seed + 1)
    scores, rows = index_of(keys).search(queries, num_keys=num_keys, num=num)
    expected = np.sort(queries @ keys.T, axis=1)[:, ::-1][:, :num]
    np.testing.assert_allclose(scores[:, :num], expected, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(queries @ keys.T, rows, 1), scores, atol=1e-5)


def test_search_looks_only_at_the_rows_in_use():
    keys = random_keys(20, seed=0)
    _, rows = index_of(keys).search(keys[15:16], num_keys=10, num=10)
    assert sorted(rows[0].tolist()) == list(range(10))


@given(copies=st.integers(2, 120), num=st.integers(1, 8), seed=st.integers(0, 99))
def test_every_row_that_ties_with_the_last_one_is_there(copies, num, seed):
    one, rest = random_keys(1, seed=seed), random_keys(9, seed=seed + 1)
    keys = np.concatenate([rest[:4], np.repeat(one, copies, axis=0), rest[4:]])
    scores, rows = index_of(keys).search(one, num_keys=len(keys), num=num)
    assert set(range(4, 4 + copies)) <= set(rows[0].tolist())
    assert len(set(scores[0, :copies].tolist())) == 1


@given(num=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_batch_gives_the_bits_of_single_searches(num, seed):
    keys, queries = random_keys(300, seed=seed), random_keys(9, seed=seed + 1)
    index = index_of(keys)
    together, _ = index.search(queries, num_keys=300, num=num)
    alone = [index.search(query[None], num_keys=300, num=num)[0][0, :num] for query in queries]
    assert np.array_equal(together[:, :num], np.stack(alone))


@settings(max_examples=10)
@given(extra=st.integers(0, 50), num=st.integers(1, 30), seed=st.integers(0, 99))
def test_sealed_segments_and_tail_give_the_bits_of_one_scan(extra, num, seed):
    keys, queries = random_keys(2 * SEGMENT_KEYS + extra, seed=seed, size=8), random_keys(2, seed=seed + 1, size=8)
    scan, sealed = index_of(keys), index_of(keys, segments=cpu_segments(8))
    for expected, got in zip(*(i.search(queries, num_keys=len(keys), num=num) for i in (scan, sealed)), strict=True):
        assert np.array_equal(got[:, :num], expected[:, :num])


def test_a_sealed_segment_sees_a_row_that_changed_and_one_that_opened_again():
    keys = random_keys(SEGMENT_KEYS + 1, seed=5, size=8)
    index, query = index_of(keys, segments=cpu_segments(8)), random_keys(1, seed=6, size=8)
    assert query[0] @ keys[index.search(query, num_keys=len(keys), num=1)[1][0, 0]] < 0.999
    index.write(7, query[0])
    assert index.search(query, num_keys=len(keys), num=1)[1][0, 0] == 7
    index.write(7, keys[7])
    index.write(SEGMENT_KEYS - 1, query[0])
    assert 7 not in index.search(query, num_keys=SEGMENT_KEYS - 1, num=1)[1][0]
    assert index.search(query, num_keys=SEGMENT_KEYS, num=1)[1][0, 0] == SEGMENT_KEYS - 1


def test_without_a_gpu_the_cpu_scans():
    assert (open_segments(8) is None) == (faiss.get_num_gpus() == 0)


@pytest.mark.gpu
def test_the_gpu_gives_the_bits_of_the_cpu():
    segments = open_segments(256)
    assert segments is not None, "faiss-gpu must be installed where the marker gpu is selected"
    keys, queries = random_keys(2 * SEGMENT_KEYS + 100, seed=1, size=256), random_keys(8, seed=2, size=256)
    on_gpu, on_cpu = index_of(keys, segments=segments), index_of(keys)
    for index in (on_gpu, on_cpu):
        index.write(3, queries[0])
    for expected, got in zip(*(i.search(queries, num_keys=len(keys), num=64) for i in (on_cpu, on_gpu)), strict=True):
        assert np.array_equal(got[:, :64], expected[:, :64])
