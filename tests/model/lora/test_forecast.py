"""What training will take: near what a real step takes, and refused with what would fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.profiler import ProfilerActivity, profile

from model.checkpoints.fill import EXACT, outline
from model.checkpoints.wan import PRECISION
from model.framepack.camera import load_camera
from model.framepack.pictures import Pictures
from model.hunyuan.framepack import latent_format as hunyuan_latents
from model.lora.forecast import Lesson, check, describe, foresee, free_memory
from model.lora.framepack import FilmTraining, film_task
from model.lora.students import HUNYUAN, WAN, hunyuan_learned, hunyuan_student, wan_learned, wan_student
from model.lora.task import adapt
from model.packing.schedule import Schedule
from model.placement.anatomy import Work
from model.placement.measure import measure
from model.placement.plan import CONTEXT_BYTES, ENCODE_BYTES, DoesNotFitError
from model.wan.framepack import latent_format as wan_latents
from tests.model.hunyuan import tiny as tiny_hunyuan
from tests.model.wan import tiny as tiny_wan

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SCHEDULE = Schedule.parse("f1k1f4k4f2k2f1k1_g3")
RANK, FACTOR = 4, 1.25


def wan():
    return tiny_wan.parts(num_layers=4)


def hunyuan():
    return tiny_hunyuan.parts(num_layers=2, num_single_layers=2)


def coarse_wan():
    """As it is on a GPU; adapters are in float32."""
    parts = wan()
    tiny_wan.coarse(parts.transformer)
    return parts


def forecast(make=wan, *, rank=RANK, others=0, frames=0, shape=(64, 128), device=CPU):
    lesson = Lesson(HUNYUAN if make is hunyuan else WAN, rank, others, frames)
    modules = {"transformer": outline(lambda: make().transformer), "vae": outline(lambda: make().vae)}
    precision = PRECISION if make is coarse_wan else EXACT
    return foresee(modules, lesson, Work(shape, str(SCHEDULE)), precision=precision, device=device)


def taken(run, folder):
    """Bytes that `run` allocates at once, by torch's own account of its allocator."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    profiled.export_chrome_trace(f"{folder}/trace.json")
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]")
    return np.cumsum([size for _, size in changes]).max()


@pytest.mark.parametrize("make", [wan, coarse_wan, hunyuan])
def test_a_real_step_takes_about_what_is_foreseen(make, tmp_path):
    """Of a network wide and long enough for prompts not to matter; what is foreseen has the longest."""
    shape, random = (384, 640), np.random.default_rng(0)
    latents = random.normal(size=(4, 16, shape[0] // 8, shape[1] // 8)).astype(np.float16)
    film = {"start": np.zeros((*shape, 3), np.uint8), "latents": latents, "controls": np.zeros((12, 3), np.float32)}
    save_file(film, tmp_path / "film.safetensors")
    is_wan = make is not hunyuan
    student = wan_student(make(), SCHEDULE) if is_wan else hunyuan_student(tiny_hunyuan.loaded(make()), SCHEDULE)
    task = film_task(student, [tmp_path / "film.safetensors"], FilmTraining(SCHEDULE), camera=load_camera())
    adapters = adapt(task, rank=RANK)
    others = (wan_learned if is_wan else hunyuan_learned)(student.network.denoiser, SCHEDULE)
    foreseen = forecast(make, others=others, shape=shape)
    assert foreseen.learning == 20 * sum(weight.numel() for weight in adapters.parameters())
    got = taken(lambda: task.loss(0)["loss"].backward(), tmp_path)
    assert 1 / FACTOR < got / (foreseen.kept + foreseen.block) < FACTOR


@pytest.mark.parametrize(("make", "form"), [(wan, wan_latents), (hunyuan, hunyuan_latents)])
def test_encoding_takes_about_what_is_foreseen(make, form):
    """In tensors; what a CPU's convolutions take beside them is their own affair."""
    vae, video = make().vae, np.zeros((45, 64, 128, 3), np.uint8)
    got = measure(lambda: Pictures(vae, form(vae)).encode_video(video), weights=vae.parameters()).peak_bytes
    assert 1 / FACTOR < got / forecast(make, frames=45).encoding < FACTOR


def test_it_follows_what_is_asked_for():
    plain = forecast()
    assert plain.weights["transformer"] == sum(4 * weight.numel() for weight in wan().transformer.parameters())
    assert forecast(rank=2 * RANK).learning == 2 * plain.learning
    assert forecast(others=7).learning == plain.learning + 20 * 7
    assert forecast(shape=(64, 256)).kept == 2 * plain.kept  # of twice the tokens
    added = [now - before for now, before in zip(forecast(device=CUDA).turns, plain.turns, strict=True)]
    assert added == [CONTEXT_BYTES, CONTEXT_BYTES + ENCODE_BYTES, CONTEXT_BYTES]
    encoding = forecast(frames=10_001)
    assert encoding.peak > plain.peak and encoding.block == plain.block


def test_networks_take_turns():
    modules = {"transformer": outline(lambda: wan().transformer), "vae": outline(lambda: wan().vae)}
    work = Work((64, 128), str(SCHEDULE))

    def of(encoder, *, frames):
        lesson = Lesson(WAN, RANK, 0, frames)
        return foresee(modules | {"text_encoder": encoder}, lesson, work, precision=EXACT, device=CPU)

    small, large = (nn.Linear(1000, size, bias=False, device="meta") for size in (1, 1000))
    films, reads, learns = of(small, frames=33), of(large, frames=0), of(small, frames=0)
    for turn, one in enumerate((films, reads, learns)):
        assert one.peak == one.turns[turn] > max(one.turns[:turn] + one.turns[turn + 1 :])
    assert learns.turns[2] == films.turns[2] == reads.turns[2]
    assert reads.turns[1] - films.turns[1] == large.weight.nbytes - small.weight.nbytes
    assert films.turns[0] > films.encoding + films.weights["vae"]
    assert "in turns" in describe(films, memory=0) and "text_encoder" in describe(films, memory=0)


def test_what_does_not_fit_is_refused_with_what_would():
    told: list[str] = []
    much, little = forecast(shape=(128, 192)), forecast()
    none = "and no smaller size would do"
    check(iter([("", much)]), memory=much.peak, tell=told.append)
    check(iter([("", much)]), memory=0, tell=told.append)  # not known
    for memory, offer in ((little.peak, "--size 96x64 would take"), (1, none), (little.peak - 1, none)):
        with pytest.raises(DoesNotFitError, match=f"of free memory to train, got .*; .*{offer}") as refused:
            forecasts = iter([("", much), ("--size 192x128", much), ("--size 96x64", little)])
            check(forecasts, memory=memory, tell=told.append)
        assert refused.value.needed == much.peak
    assert len(told) == 5 and "of unknown free" in told[1] and "what learns, with gradients" in told[0]


def test_free_memory_is_what_the_machine_says():
    assert free_memory(CPU) > 0 or not Path("/proc/meminfo").exists()
