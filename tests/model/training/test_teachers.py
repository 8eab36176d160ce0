"""The depth that the model reads from pictures, recorded or its own."""

import numpy as np
import torch

from model.training.sequences import RECENT, Batch, Drawing, draw
from model.training.teachers import TEACHING, Teachers, freeze, with_own_depth, with_targets
from tests.model.rooms.small import networks
from tests.model.training.episodes import data


def teachers() -> Teachers:
    made = networks()
    frozen = Teachers(made.vae, made.depth)
    freeze(frozen)
    return frozen


def batch() -> Batch:
    return draw(data(), Drawing(batch=2, targets=4, recall_dropout=0.0), np.random.default_rng(3))


def test_teachers_are_frozen_and_small() -> None:
    parameters = [p for network in teachers() for p in network.parameters()]
    assert parameters and all(p.dtype == TEACHING and not p.requires_grad for p in parameters)


def test_some_sequences_are_taught_with_the_models_own_depth() -> None:
    frozen, one = teachers(), batch()
    generator = torch.Generator().manual_seed(0)
    own = with_own_depth(frozen, one, 1.0, generator)
    with torch.no_grad():
        expected = frozen.depth(one.memory[1].to(TEACHING))
    torch.testing.assert_close(own.memory_depths[1], expected, atol=0.02, rtol=0.02)
    assert own.depths.shape == one.depths.shape
    assert (own.depths - one.depths).abs().mean() > 0.01
    same = with_own_depth(frozen, one, 0.0, generator)
    assert torch.equal(same.depths, one.depths)


def test_own_frames_take_the_place_of_the_targets() -> None:
    frozen, one = teachers(), batch()
    made = torch.randn_like(one.clip[:, RECENT:])
    after = with_targets(frozen, one, made)
    assert torch.equal(after.clip[:, RECENT:], made)
    assert torch.equal(after.clip[:, :RECENT], one.clip[:, :RECENT])
    assert not torch.equal(after.depths[:, RECENT:], one.depths[:, RECENT:])
    with torch.no_grad():
        expected = frozen.depth(made[1].to(TEACHING))
    torch.testing.assert_close(after.depths[1, RECENT:], expected, atol=0.02, rtol=0.02)
