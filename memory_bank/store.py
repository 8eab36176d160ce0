"""A bank's arrays as one safetensors file: contiguous, so that other tools can map it."""

import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from .query import BankConfig

FORMAT = "rewander.memory.v1"


class StoreError(ValueError):
    """A file or state that is not a bank of this configuration."""


def write_state(path: Path, state: dict[str, np.ndarray]) -> None:
    """Write `state` so that `path` is either the old file or the whole new one."""
    partial = path.with_name(f"{path.name}.partial")
    save_file(state, partial, metadata={"format": FORMAT})
    os.replace(partial, path)


def read_state(path: Path) -> dict[str, np.ndarray]:
    """Raises StoreError if `path` is not a safetensors file; `check_state` then says whether it is a bank."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise StoreError(f"expected a {FORMAT} file, got {path.name}: {error}") from error


def check_state(state: dict[str, np.ndarray], *, config: BankConfig, num_recent: int) -> None:
    """Raises StoreError unless `state` is whole, fits `config`, and its keys and ids are possible."""
    n = len(state["ids"]) if "ids" in state else 0
    expected = {
        "ids": ((n,), np.int64),
        "keys": ((n, config.key_size), np.float32),
        "latents": ((n, *config.latent_shape), np.float16),
        "poses": ((n, 3), np.float32),
        "sights": ((n, config.num_rays), np.float32),
        "twin_ids": ((n,), np.int64),
        "twin_cos": ((n,), np.float32),
        "recent_ids": ((num_recent,), np.int64),
        "recent_keys": ((num_recent, config.key_size), np.float32),
        "counters": ((4,), np.int64),
    }
    if state.keys() != expected.keys():
        raise StoreError(f"expected the arrays {sorted(expected)}, got {sorted(state)}")
    for name, (shape, dtype) in expected.items():
        if state[name].shape != shape or state[name].dtype != dtype:
            raise StoreError(f"expected {name} {shape} {np.dtype(dtype)}, got {state[name].shape} {state[name].dtype}")
    ids = np.sort(state["ids"])
    if n > config.capacity or (n and ids[0] < 0) or bool((ids[1:] == ids[:-1]).any()):
        raise StoreError(f"expected at most {config.capacity} different ids of at least 0, got {n} up to {ids[-1:]}")
    if n and state["counters"][0] < ids[-1]:
        raise StoreError(f"expected the newest index to be at least {ids[-1]}, got {state['counters'][0]}")
    if not (state["twin_ids"] < state["ids"]).all() or not (state["twin_cos"] < 1.01).all():
        raise StoreError("expected twins that are older than their entries, at cosines of at most 1, got others")
    if not is_unit(state["keys"]).all():
        raise StoreError("expected keys of unit length, got others")


def is_unit(keys: np.ndarray) -> np.ndarray:
    """Whether each of `keys` (..., d) has unit length, to a thousandth; False for NaN."""
    return np.asarray(np.abs(np.linalg.norm(keys, axis=-1) - 1) < 1e-3)
