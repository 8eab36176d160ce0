"""A bank that was saved, loaded or restored goes on bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from memory_bank import MemoryBank, Query, StoreError
from memory_bank.modes import MODES
from tests.memory_bank.worlds import KEY_SIZE, LATENT_SHAPE, bank_of, filled_bank, random_keys, random_latents


def later(bank: MemoryBank, *, seed: int) -> list[object]:
    """What the bank does from here on: what it keeps of 20 more entries, what it recalls, what it counts."""
    keys, latents = random_keys(20, seed=seed), random_latents(20, seed=seed)
    seen: list[object] = []
    for i in range(20):
        seen.append(bank.remember(index=200 + i, key=keys[i], latent=latents[i]))
        for mode in ("sequel", "draft", "hybrid", "random"):
            ask = Query(index=200 + i, key=keys[i], latent=latents[i], num=5, context=frozenset({200 + i}), mode=mode)
            seen.append(bank.recall(ask))
            seen.append([array.tobytes() for array in bank.gather(bank.recall(ask).ids)])
    return [*seen, bank.stats()]


@settings(max_examples=10)
@given(num=st.integers(1, 120), gone=st.sets(st.integers(1, 100), max_size=9), seed=st.integers(0, 99))
def test_a_loaded_bank_goes_on_as_the_saved_one(tmp_path_factory, num, gone, seed):
    path = tmp_path_factory.mktemp("banks") / "bank.safetensors"
    bank = filled_bank(num, seed=seed, capacity=64)
    bank.forget(gone)
    bank.save(path)
    loaded = MemoryBank.load(path, config=bank.config)
    assert loaded.stats() == bank.stats()
    assert later(loaded, seed=seed) == later(bank, seed=seed)


def test_every_mode_recalls_the_same_after_loading(tmp_path):
    poses = np.random.default_rng(0).uniform(-3, 3, (150, 3)).astype(np.float32)
    bank = bank_of(poses, capacity=100)
    bank.save(tmp_path / "bank")
    loaded = MemoryBank.load(tmp_path / "bank", config=bank.config)
    key, latent = random_keys(1, seed=1)[0], random_latents(1, seed=1)[0]
    for mode in MODES:
        ask = Query(index=151, key=key, latent=latent, num=6, mode=mode, poses=poses[3:6], field_of_view=1.0)
        assert loaded.recall(ask) == bank.recall(ask)


def test_a_state_is_a_copy_and_restores_apart():
    bank = filled_bank(30, seed=0)
    branch = MemoryBank.restore(bank.config, bank.state())
    bank.forget(range(1, 30))
    assert len(branch) == 30
    assert len(bank) == 1


def test_saving_again_replaces_the_file_and_leaves_nothing_else(tmp_path):
    for num in (5, 9):
        filled_bank(num, seed=0).save(tmp_path / "bank")
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]
    assert len(MemoryBank.load(tmp_path / "bank", config=filled_bank(1, seed=0).config)) == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": np.zeros((3, KEY_SIZE + 1), np.float32)}, "expected keys"),
        ({"keys": np.zeros((3, KEY_SIZE), np.float32)}, "unit length"),
        ({"keys": np.full((3, KEY_SIZE), np.nan, np.float32)}, "unit length"),
        ({"latents": np.zeros((2, *LATENT_SHAPE), np.float16)}, "expected latents"),
        ({"latents": np.zeros((3, *LATENT_SHAPE), np.float32)}, "expected latents"),
        ({"ids": np.asarray([0, 2, 2])}, "different ids"),
        ({"ids": np.asarray([0, -1, 2])}, "different ids"),
        ({"counters": np.asarray([1, 0, 0, 0])}, "expected the newest index to be at least 2, got 1"),
        ({"twin_ids": np.asarray([1, 0, 1])}, "expected twins that are older"),
        ({"twin_cos": np.full(3, np.nan, np.float32)}, "expected twins that are older"),
        ({"extra": np.zeros(1)}, "expected the arrays"),
    ],
)
def test_a_state_that_is_no_bank_is_refused(changes, message):
    bank = filled_bank(3, seed=0)
    with pytest.raises(StoreError, match=message):
        MemoryBank.restore(bank.config, bank.state() | changes)


def test_a_bank_larger_than_the_capacity_is_refused():
    bank = filled_bank(5, seed=0)
    small = replace(bank.config, capacity=4)
    with pytest.raises(StoreError, match="expected at most 4 different ids"):
        MemoryBank.restore(small, bank.state())


def test_a_file_of_another_kind_is_refused(tmp_path):
    config = filled_bank(1, seed=0).config
    (tmp_path / "text").write_text("not a bank")
    with pytest.raises(StoreError, match="expected a rewander.memory.v1 file, got text"):
        MemoryBank.load(tmp_path / "text", config=config)
    save_file({"weights": np.zeros(3)}, tmp_path / "weights")
    with pytest.raises(StoreError, match="expected the arrays"):
        MemoryBank.load(tmp_path / "weights", config=config)
