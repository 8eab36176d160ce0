import numpy as np
import torch

from model.rooms.camera import Camera
from model.rooms.dit import DiT
from model.training.dit import (
    RECALLED,
    RECENT,
    TEACHING,
    Batch,
    DiTTraining,
    Teachers,
    dit_loss,
    draw,
    previews,
    recall_for_training,
    with_own_depth,
)
from tests.model.rooms.small import networks
from tests.model.training.episodes import data

TRAINING = DiTTraining(batch=2, targets=4, recall_dropout=0.0)


def model_and_teachers() -> tuple[DiT, Teachers]:
    made = networks()
    return made.dit, Teachers(made.vae.to(TEACHING), made.depth.to(TEACHING))


def batch(seed: int = 3) -> Batch:
    return draw(data(), TRAINING, np.random.default_rng(seed))


def test_batches_hold_what_led_to_the_targets() -> None:
    made = data()
    for seed in range(20):
        one = draw(made, TRAINING, np.random.default_rng(seed))
        assert one.clip.shape == (2, RECENT + 4, 16, 16, 16)
        assert one.memory.shape == (2, 1 + RECALLED, 16, 16, 16)
        for b in range(2):
            frames = one.frames[b].clamp(min=0)
            episode = next(e for e in range(2) if np.allclose(made.poses[e][frames[-1]], one.poses[b, -1]))
            assert np.array_equal(made.latents[episode][frames], one.clip[b].numpy().astype(np.float16))
            assert np.array_equal(made.depths[episode][frames], one.depths[b].numpy().astype(np.float16))
            assert np.array_equal(made.controls[episode][frames], one.controls[b].numpy())
            memory = one.memory_frames[b]
            assert np.array_equal(made.depths[episode][memory], one.memory_depths[b].numpy().astype(np.float16))
            recalled = memory[1:][one.memory_valid[b, 1:]]
            targets = one.frames[b, RECENT:]
            assert not np.isin(recalled, targets).any()


def test_recall_prefers_what_the_targets_will_see() -> None:
    """Half of the episode looks north, half south; targets look north."""
    poses = np.zeros((200, 3), np.float32)
    poses[60:140, 2] = np.pi
    rng = np.random.default_rng(0)
    chosen = np.concatenate([recall_for_training(poses, 150, TRAINING, rng)[0] for _ in range(20)])
    assert ((chosen < 60) | (chosen >= 140)).mean() > 0.9
    first_frames, valid = recall_for_training(poses[:6], 2, TRAINING, rng)
    assert not valid.any()
    assert not first_frames.any()


def test_a_camera_at_rest_previews_the_frame_before() -> None:
    """The base of every target is then the latent before it, as the VAE decodes and encodes it."""
    _, teachers = model_and_teachers()
    one = batch()
    one = one._replace(poses=torch.zeros_like(one.poses), frames=one.frames.clamp(min=0))
    with torch.no_grad():
        shown = previews(teachers, one, Camera().edge)
        before = one.clip[:, RECENT - 1 : -1].flatten(0, 1).to(TEACHING)
        expected = teachers.vae.encode(teachers.vae.decode(before).clamp(-1, 1)).float()
    assert (shown.base - expected).norm() < 0.05 * expected.norm()
    assert (shown.shares[:, 0] == 1).all()


def test_some_sequences_are_taught_with_the_models_own_depth() -> None:
    _, teachers = model_and_teachers()
    one, training = batch(), DiTTraining(own_depth=1.0)
    generator = torch.Generator().manual_seed(0)
    own = with_own_depth(teachers, one, training, generator)
    with torch.no_grad():
        expected = teachers.depth(one.memory[1].to(TEACHING))
    torch.testing.assert_close(own.memory_depths[1], expected, atol=0.02, rtol=0.02)
    assert own.depths.shape == one.depths.shape
    assert (own.depths - one.depths).abs().mean() > 0.01
    same = with_own_depth(teachers, one, DiTTraining(own_depth=0.0), generator)
    assert torch.equal(same.depths, one.depths)


def test_the_loss_reaches_every_parameter_of_the_dit_and_no_other() -> None:
    model, teachers = model_and_teachers()
    one = batch()
    for own in (0, 1):
        generator = torch.Generator().manual_seed(0)
        losses = dit_loss(model, teachers, one, TRAINING, generator=generator, own=own)
        assert f"own_{own}" in losses
        losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad is None for teacher in teachers for parameter in teacher.parameters())
