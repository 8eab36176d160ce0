import numpy as np
import pytest
import torch
from torch import Tensor

from model.rooms.looks import LooksCache
from model.rooms.vae import VAE
from tests.model.rooms.small import networks

CAPACITY = 6


class Counting(VAE):
    """Counts what it decodes."""

    count = 0

    def decode(self, latents: Tensor) -> Tensor:
        self.count += len(latents)
        return super().decode(latents)


def cache() -> tuple[LooksCache, Counting]:
    made = networks()
    vae = Counting(made.vae.config)
    vae.load_state_dict(made.vae.state_dict())
    return LooksCache(vae, made.depth, torch.float32, torch.device("cpu"), capacity=CAPACITY), vae


def latents(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).standard_normal((count, 16, 16, 16)).astype(np.float16))


@torch.no_grad()
def test_a_picture_is_decoded_once() -> None:
    looks, vae = cache()
    some = latents(5)
    first = looks.of(some)
    again = looks.of([some[3], some[3], some[0]])
    assert vae.count == 5
    assert torch.equal(again.images, first.images[[3, 3, 0]])
    assert torch.equal(again.depths, first.depths[[3, 3, 0]])
    assert first.images.dtype == torch.uint8
    assert first.images.shape == (5, 3, 128, 128)
    assert first.depths.shape == (5, 64, 64)
    assert (first.images[0] != first.images[1]).any()


@torch.no_grad()
def test_what_was_not_asked_for_longest_is_forgotten() -> None:
    looks, vae = cache()
    others = latents(CAPACITY)
    looks.of(others[:2])
    looks.of(others[1:])
    looks.of([others[1]])
    assert len(looks) == CAPACITY == vae.count
    looks.of([np.full_like(others[0], 2)])
    looks.of([others[1]])
    assert vae.count == CAPACITY + 1
    looks.of([others[0]])
    assert vae.count == CAPACITY + 2
    assert len(looks) == CAPACITY


@torch.no_grad()
def test_what_is_asked_for_together_is_found_together() -> None:
    looks, vae = cache()
    some = latents(CAPACITY + 2)
    alone = [looks.of([latent]).images for latent in some]
    for asked in ([0, 7, 3, 2, 1, 4], [5, 5, 6], [7, 0, 3, 6, 2, 5]):
        images = looks.of([some[i] for i in asked]).images
        torch.testing.assert_close(images.float(), torch.cat([alone[i] for i in asked]).float(), rtol=0, atol=1)
    with pytest.raises(AssertionError, match="expected at most 6 latents, got 8"):
        looks.of(some)
