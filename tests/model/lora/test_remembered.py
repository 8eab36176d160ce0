"""Without its encoders a network learns the very same."""

import gc
import weakref

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from model.framepack.camera import load_camera
from model.lora.films import FilmError
from model.lora.framepack import FilmTraining, film_task, prompts_of
from model.lora.remembered import remember
from model.lora.students import hunyuan_student, wan_student
from model.packing.schedule import Schedule
from tests.model.hunyuan import tiny as hunyuan
from tests.model.wan import tiny as wan

SCHEDULE = Schedule.parse("f1k1f4k4f2k2f1k1_g2")
TRAINING = FilmTraining(SCHEDULE, batch=2, prompt="a garden")


@pytest.fixture
def films(tmp_path):
    """One goes forward all the time, the other turns from the middle on."""
    random, paths = np.random.default_rng(0), []
    for i in range(2):
        film = {
            "start": random.integers(0, 256, (32, 32, 3), np.uint8),
            "latents": random.normal(size=(9, 16, 4, 4)).astype(np.float16),
            "controls": np.zeros((32, 3), np.float32),
        }
        film["controls"][16 * i :, i] = 1
        paths.append(tmp_path / f"{i}.safetensors")
        save_file(film, paths[-1])
    return paths


def test_prompts_are_those_of_all_sections_that_may_be_drawn(films):
    camera = load_camera()
    pressed = [np.eye(4, dtype=np.float32)[[axis]] for axis in (0, 1)]
    expected = {"a garden", *(camera.direct("a garden", controls) for controls in pressed)}
    assert len(expected) == 3 and prompts_of(films, TRAINING, camera=camera) == expected
    assert len(prompts_of(films[:1], TRAINING, camera=camera)) == 1
    with pytest.raises(FilmError, match="more than 9 latents, got some of 9"):
        prompts_of(films, FilmTraining(Schedule.parse("f1k1_g9")), camera=camera)


def make_wan():
    parts = wan.parts()
    return parts, wan_student, [parts.texts._encoder, parts.vae]


def make_hunyuan():
    of = hunyuan.parts()
    return hunyuan.loaded(of), hunyuan_student, [of.text_encoder, of.text_encoder_2, of.image_encoder, of.vae]


@pytest.mark.parametrize("make", [make_wan, make_hunyuan])
def test_it_learns_the_same_when_encoders_are_gone(films, make):
    camera = load_camera()
    parts, student, encoders = make()
    asked = film_task(student(parts, SCHEDULE), films, TRAINING, camera=camera)
    with torch.no_grad():
        expected = [asked.loss(step)["loss"] for step in range(4)]
    assert len(set(expected)) == 4
    seen = [weakref.ref(encoder) for encoder in encoders]
    del asked, encoders
    parts = remember(parts, films, TRAINING, camera=camera)
    gc.collect()
    assert [ref() for ref in seen] == [None] * len(seen)
    knowing = film_task(student(parts, SCHEDULE), films, TRAINING, camera=camera)
    with torch.no_grad():
        assert [knowing.loss(step)["loss"] for step in range(4)] == expected
    knowing.loss(0)["loss"].backward()
