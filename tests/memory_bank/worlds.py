"""Small worlds for the tests: keys and latents that depend on the pose alone, smoothly, and walks through them."""

import math

import numpy as np

from memory_bank import BankConfig, MemoryBank

KEY_SIZE = 24
LATENT_SHAPE = (3, 2, 2)
FORWARD, TURN = 30, 10  # latents of one leg and of one half turn in `there_and_back`
STEP = 0.2  # metres per latent


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def random_keys(num: int, *, seed: int, size: int = KEY_SIZE) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((num, size)))


def random_latents(num: int, *, seed: int, shape: tuple[int, int, int] = LATENT_SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num, *shape)).astype(np.float16)


def keys_at(poses: np.ndarray) -> np.ndarray:
    """What a camera's view looks like: near poses give near keys, far ones unrelated keys."""
    return unit(_features(poses, size=KEY_SIZE, seed=1))


def latents_at(poses: np.ndarray) -> np.ndarray:
    return _features(poses, size=math.prod(LATENT_SHAPE), seed=2).reshape(-1, *LATENT_SHAPE).astype(np.float16)


def there_and_back() -> np.ndarray:
    """Ahead along x, half a turn, back, half a turn, and ahead again half the way: (n, 3) poses."""
    x = np.arange(FORWARD) * STEP
    turn = np.arange(1, TURN + 1) / TURN * math.pi
    legs = [
        (x, np.zeros(FORWARD)),
        (np.full(TURN, x[-1]), turn),
        (x[::-1], np.full(FORWARD, math.pi)),
        (np.zeros(TURN), math.pi + turn),
        (x[: FORWARD // 2], np.zeros(FORWARD // 2)),
    ]
    xs, headings = (np.concatenate(parts) for parts in zip(*legs, strict=True))
    return np.stack([xs, np.zeros(len(xs)), headings], axis=1).astype(np.float32)


def bank_of(poses: np.ndarray, **config: float) -> MemoryBank:
    """A bank that was shown `poses` in order from index 0; it stores all of them unless told otherwise.

    Every entry sees a wall 3 m ahead.
    """
    options = {"novelty": 2.0, "num_rays": 16} | config
    bank = MemoryBank(BankConfig(key_size=KEY_SIZE, latent_shape=LATENT_SHAPE, **options))  # type: ignore[arg-type]
    keys, latents = keys_at(poses), latents_at(poses)
    sight = np.full(bank.config.num_rays, 1 / 3, np.float32)
    for i, (key, latent, pose) in enumerate(zip(keys, latents, poses, strict=True)):
        bank.remember(index=i, key=key, latent=latent, pose=pose, sight=sight)
    return bank


def filled_bank(num: int, *, seed: int, **config: float) -> MemoryBank:
    """A bank that was offered `num` random entries, without poses, but with room for sights."""
    options = {"novelty": 2.0, "num_rays": 4} | config
    bank = MemoryBank(BankConfig(key_size=KEY_SIZE, latent_shape=LATENT_SHAPE, **options))  # type: ignore[arg-type]
    keys, latents = random_keys(num, seed=seed), random_latents(num, seed=seed)
    for i in range(num):
        bank.remember(index=i, key=keys[i], latent=latents[i])
    return bank


def _features(poses: np.ndarray, *, size: int, seed: int) -> np.ndarray:
    place = np.concatenate([poses[:, :2], np.cos(poses[:, 2:]), np.sin(poses[:, 2:])], axis=1)
    generator = np.random.default_rng(seed)
    weights = generator.standard_normal((4, size)) * 1.2
    return np.cos(place @ weights + generator.uniform(0, 2 * math.pi, size))
