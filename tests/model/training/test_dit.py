"""Flow matching of a small transformer: what its loss reaches."""

import numpy as np
import torch

from model.rooms.dit import DiT
from model.training.dit import DiTTraining, dit_loss
from model.training.sequences import Batch, Drawing, draw
from model.training.teachers import TEACHING, Teachers
from tests.model.rooms.small import networks
from tests.model.training.episodes import data

TRAINING = DiTTraining(Drawing(batch=2, targets=4, recall_dropout=0.0))


def model_and_teachers() -> tuple[DiT, Teachers]:
    made = networks()
    return made.dit, Teachers(made.vae.to(TEACHING), made.depth.to(TEACHING))


def batch(seed: int = 3) -> Batch:
    return draw(data(), TRAINING.drawing, np.random.default_rng(seed))


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
