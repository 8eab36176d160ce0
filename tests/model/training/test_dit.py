import numpy as np
import torch

from model.rooms.motion import Motion
from model.training.dit import RECALLED, RECENT, DiTTraining, Latents, dit_loss, draw, recall_for_training
from tests.model.rooms.small import networks

TRAINING = DiTTraining(batch=2, targets=6, recall_dropout=0.0)


def data(episodes: int = 2, frames: int = 60) -> Latents:
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((episodes, frames, 16, 16, 16)).astype(np.float16)
    controls = rng.uniform(-1, 1, (episodes, frames, 3)).astype(np.float32)
    return Latents(latents, controls, np.cumsum(rng.normal(0, 0.1, (episodes, frames, 3)), 1).astype(np.float32))


def test_batches_hold_what_led_to_the_targets() -> None:
    made = data()
    for seed in range(20):
        batch = draw(made, TRAINING, np.random.default_rng(seed))
        assert batch.clip.shape == (2, RECENT + 6, 16, 16, 16)
        assert batch.memory.shape == (2, 1 + RECALLED, 16, 16, 16)
        for b in range(2):
            frames = batch.frames[b].clamp(min=0)
            episode = next(e for e in range(2) if np.allclose(made.poses[e][frames[-1]], batch.poses[b, -1]))
            assert np.array_equal(made.latents[episode][frames], batch.clip[b].numpy().astype(np.float16))
            assert np.array_equal(made.controls[episode][frames], batch.controls[b].numpy())
            recalled = batch.memory_frames[b, 1:][batch.memory_valid[b, 1:]]
            targets = batch.frames[b, RECENT:]
            assert not np.isin(recalled, targets).any()


def test_recall_prefers_what_the_targets_will_see() -> None:
    """Half of the episode looks north, half south; targets look north."""
    poses = np.zeros((200, 3), np.float32)
    poses[60:140, 2] = np.pi
    rng = np.random.default_rng(0)
    chosen = np.concatenate([recall_for_training(poses, 150, TRAINING, rng)[0] for _ in range(20)])
    assert ((chosen < 60) | (chosen >= 140)).mean() > 0.9
    first_frames, valid = recall_for_training(poses[:8], 2, TRAINING, rng)
    assert not valid.any()
    assert not first_frames.any()


def test_the_loss_reaches_every_parameter_of_the_dit_and_no_other() -> None:
    made = networks()
    batch = draw(data(), TRAINING, np.random.default_rng(3))
    for rollout in (False, True):
        generator = torch.Generator().manual_seed(0)
        losses = dit_loss(made, batch, TRAINING, generator=generator, rollout=rollout)
        assert ("rollout" if rollout else "first") in losses
        losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in made.dit.parameters())
    assert all(parameter.grad is None for parameter in made.vae.parameters())
    assert isinstance(made.motion, Motion)
    assert all(parameter.grad is None for parameter in made.motion.parameters())
