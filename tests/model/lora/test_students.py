"""What learns of each network, and that it does."""

import re

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from model.checkpoints.lora import read_lora
from model.framepack.camera import load_camera
from model.lora.files import LORA
from model.lora.framepack import FilmTraining, film_task
from model.lora.students import hunyuan_student, wan_student
from model.lora.task import LoraTraining, train_lora
from model.packing.schedule import Schedule
from model.training.loop import Run
from tests.model.hunyuan import tiny as hunyuan
from tests.model.wan import tiny as wan

SCHEDULE = Schedule.parse("f1k1f4k4f2k2f1k1_g2")


def student_of(name):
    if name == "wan":
        return wan_student(wan.parts(), SCHEDULE)
    return hunyuan_student(hunyuan.loaded(hunyuan.parts()), SCHEDULE)


@pytest.fixture
def films(tmp_path):
    random = np.random.default_rng(0)
    film = {
        "start": random.integers(0, 256, (32, 32, 3), np.uint8),
        "latents": random.normal(size=(12, 16, 4, 4)).astype(np.float16),
        "controls": np.zeros((44, 3), np.float32),
    }
    save_file(film, tmp_path / "film.safetensors")
    return [tmp_path / "film.safetensors"]


@pytest.mark.parametrize("name", ["wan", "hunyuan"])
def test_a_few_steps_of_training_lower_the_loss(name, films, tmp_path):
    student = student_of(name)
    task = film_task(student, films, FilmTraining(SCHEDULE), camera=load_camera())
    with torch.no_grad():
        before = sum(task.loss(step)["loss"].item() for step in range(1000, 1010))
    train_lora(task, Run(tmp_path, 40, warmup=1, checkpoint_every=3600), LoraTraining(rank=4, rate=1e-2))
    with torch.no_grad():
        after = sum(task.loss(step)["loss"].item() for step in range(1000, 1010))
    assert after < 0.96 * before  # of the same draws: in miniature there is little to adapt
    fresh = student_of(name).denoiser
    assert len(read_lora(tmp_path / LORA, fresh)) == len(adapted(name, fresh))


def adapted(name, network):
    return [
        path
        for path, module in network.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(student_of(name).linears, path)
    ]


def test_all_attention_and_feed_forward_layers_are_adapted():
    in_wan = adapted("wan", student_of("wan").denoiser)
    assert len(in_wan) == 2 * (4 + 4 + 2) + 1
    in_hunyuan = adapted("hunyuan", student_of("hunyuan").denoiser)
    assert len(in_hunyuan) == (8 + 2 + 2) + (3 + 2)
    assert not any("norm" in path or "embed" in path for path in in_wan + in_hunyuan)


def test_only_wan_learns_patchify_kernels():
    assert set(student_of("wan").learned) == {"packer"}
    trained = student_of("hunyuan")
    assert not trained.learned
    assert not any(parameter.requires_grad for parameter in trained.network.packer.parameters())
