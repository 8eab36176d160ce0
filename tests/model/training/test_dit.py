import numpy as np
import torch

from model.rooms.camera import Camera
from model.rooms.dit import DiT
from model.training.dit import (
    TEACHING,
    DiTTraining,
    Teachers,
    dit_loss,
    previews,
    with_own_depth,
)
from model.training.sequences import RECENT, Batch, Drawing, draw
from tests.model.rooms.small import networks
from tests.model.training.episodes import data

TRAINING = DiTTraining(Drawing(batch=2, targets=4, recall_dropout=0.0))


def model_and_teachers() -> tuple[DiT, Teachers]:
    made = networks()
    return made.dit, Teachers(made.vae.to(TEACHING), made.depth.to(TEACHING))


def batch(seed: int = 3) -> Batch:
    return draw(data(), TRAINING.drawing, np.random.default_rng(seed))


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
    one = batch()
    generator = torch.Generator().manual_seed(0)
    own = with_own_depth(teachers, one, 1.0, generator)
    with torch.no_grad():
        expected = teachers.depth(one.memory[1].to(TEACHING))
    torch.testing.assert_close(own.memory_depths[1], expected, atol=0.02, rtol=0.02)
    assert own.depths.shape == one.depths.shape
    assert (own.depths - one.depths).abs().mean() > 0.01
    same = with_own_depth(teachers, one, 0.0, generator)
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
