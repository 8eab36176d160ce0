"""How long a recall takes: `python -m tests.memory_bank.bench_recall [--json]`, one thread, one bank in memory.

Every key of the JSON is `{what}_us.n{entries}.d{key_size}`, the median of ROUNDS calls in microseconds:

search    the nearest 64 by key, FAISS alone
sequel    a whole recall of 5 entries by mode 'sequel': search, anchors, diversity against a context of 20, reasons
view      the same by what entries of 16 rays show from three expected poses
pose      the same by these poses and the field of view
hybrid    the same by Eq. 5 on latents (16, 16, 16); up to 10,000 entries, since these take 8 kB each
remember  one new entry offered to a full bank: novelty gate and eviction
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import faiss
import numpy as np

from memory_bank import BankConfig, MemoryBank, Query
from memory_bank.bank import NUM_RECENT_KEYS
from memory_bank.index import KeyIndex

ENTRIES = (1_000, 10_000, 100_000)
KEY_SIZES = (128, 256)
ROUNDS = 30
NUM_RAYS = 16
MAX_WITH_LATENTS = 10_000
SECONDS_PER_LAP = 60  # the walk comes by the same places again


def walk(num: int) -> np.ndarray:
    """Laps that differ a little, 15 latents a second: (num, 3) poses."""
    angle = np.arange(num) / (15 * SECONDS_PER_LAP) * 2 * np.pi
    radius = 5 + 2 * np.sin(np.sqrt(2) * angle)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), angle + np.pi / 2], axis=1).astype(np.float32)


def unit_keys(poses: np.ndarray, size: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    place = np.concatenate([poses[:, :2] / 2, np.cos(poses[:, 2:]), np.sin(poses[:, 2:])], axis=1)
    keys = np.cos(place @ generator.standard_normal((4, size)) + generator.uniform(0, 2 * np.pi, size))
    keys += 0.2 * generator.standard_normal(keys.shape)
    return (keys / np.linalg.norm(keys, axis=1, keepdims=True)).astype(np.float32)


def full_bank(keys: np.ndarray, poses: np.ndarray) -> MemoryBank:
    """A bank at its capacity, put there at once."""
    num, size = keys.shape
    shape = (16, 16, 16) if num <= MAX_WITH_LATENTS else (1, 1, 1)
    config = BankConfig(key_size=size, latent_shape=shape, capacity=num, novelty=2.0, num_rays=NUM_RAYS)
    state = {
        "ids": np.arange(num),
        "keys": keys,
        "latents": np.ones((num, *shape), np.float16),
        "poses": poses,
        "sights": np.full((num, NUM_RAYS), 0.5, np.float32),
        "twin_ids": np.arange(num) - 1,
        "twin_cos": np.full(num, 0.9, np.float32),
        "recent_ids": np.full(NUM_RECENT_KEYS, -1),
        "recent_keys": np.zeros((NUM_RECENT_KEYS, size), np.float32),
        "counters": np.asarray([num - 1, 0, 0, 0]),
    }
    return MemoryBank.restore(config, state)


def median_us(call: Callable[[int], object]) -> float:
    spent = []
    for i in range(ROUNDS):
        started = time.perf_counter_ns()
        call(i)
        spent.append(time.perf_counter_ns() - started)
    return round(statistics.median(spent) / 1000, 1)


def measure(num: int, size: int) -> dict[str, float]:
    """Medians by what is measured."""
    poses = walk(num + 2 * ROUNDS)
    keys = unit_keys(poses, size)
    bank = full_bank(keys[:num], poses[:num])
    index = KeyIndex(key_size=size, capacity=num, segments=None)
    index.keys[:] = keys[:num]
    latent = np.ones(bank.config.latent_shape, np.float16)
    context = frozenset({0, *range(num - 19, num)})

    def recall(mode: str, i: int) -> object:
        later = num + i
        query = Query(
            index=later,
            key=keys[later],
            num=5,
            latent=latent,
            context=context,
            mode=mode,  # type: ignore[arg-type]
            poses=poses[later : later + 12 : 4],
            field_of_view=1.3,
        )
        return bank.recall(query)

    figures = {"search": median_us(lambda i: index.search(keys[num + i : num + i + 1], num_keys=num, num=64))}
    for mode in ("sequel", "view", "pose", *(("hybrid",) if num <= MAX_WITH_LATENTS else ())):
        figures[mode] = median_us(lambda i, mode=mode: recall(mode, i))
    figures["remember"] = median_us(lambda i: bank.remember(index=num + i, key=keys[num + i], latent=latent))
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as one flat JSON object")
    parser.add_argument("--entries", type=int, nargs="+", default=list(ENTRIES))
    parser.add_argument("--key-sizes", type=int, nargs="+", default=list(KEY_SIZES))
    options = parser.parse_args(argv)
    faiss.omp_set_num_threads(1)
    figures = {
        f"{what}_us.n{num}.d{size}": median
        for size in options.key_sizes
        for num in options.entries
        for what, median in measure(num, size).items()
    }
    lines = [json.dumps(figures, indent=1)] if options.json else [f"{key:28}{us:>10}" for key, us in figures.items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
