"""The whole way: a checkpoint in its official layout and recorded episodes in, adapters out."""

import gc
import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from model.checkpoints.lora import LoraError
from model.checkpoints.places import MissingWeightsError, Shelf, WrongWeightsError
from model.framepack.camera import CameraError
from model.large.assemble import assemble
from model.large.settings import parse_settings
from model.lora.films import FilmError
from model.lora.stage import TASKS, LoraOrder, stage_lora
from model.lora.task import LoraTraining
from model.placement.plan import DoesNotFitError
from model.training.record import FORMAT
from server.world import Opening, World, num_frames, sample
from tests.model.checkpoints import official
from tests.model.hunyuan import tiny as tiny_hunyuan
from tests.model.wan import tiny

SCHEDULE = "f1k1f4k4f2k2f1k1_g2"


@pytest.fixture
def order(tmp_path):
    official.write_wan(tmp_path / "weights")
    (tmp_path / "episodes").mkdir()
    for seed in range(2):
        frames = np.stack([tiny.image((32, 32), seed=10 * seed + i) for i in range(17)])
        arrays = {"frames": frames, "controls": np.zeros((17, 3), np.float32), "poses": np.zeros((17, 3), np.float32)}
        save_file(arrays, tmp_path / "episodes" / f"{seed}.safetensors", {"format": FORMAT})
    shelf = Shelf((tmp_path / "weights",))
    return LoraOrder(
        tmp_path / "out", tmp_path / "episodes", shelf, prompt="a garden", frame_shape=(32, 32), schedule=SCHEDULE
    )


@pytest.mark.parametrize("model", ["wan", "framepack-f1"])
def test_adapters_come_out_and_play(order, model):
    official.write_framepack(order.weights.roots[0], tiny_hunyuan.parts())
    folder = stage_lora(model, order, LoraTraining(rank=2, rate=1e-2), steps=3)
    assert folder == order.folder / "lora"
    assert len(list((order.folder / "films").glob("*.safetensors"))) == 2
    plain, tuned = (played(model, order, lora) for lora in ("", str(folder)))
    assert not np.array_equal(plain, tuned)


def played(model, order, lora):
    """The first section of a world, as a user asks for it, with more kernels than were taught."""
    asked = {"weights": str(order.weights.roots[0]), "lora": lora, "device": "cpu", "width": "32", "height": "32"}
    asked |= {"schedule": "f1k1f8k8f4k4f2k2f1k1_g2", "steps": "2", "solver": "euler"}
    made = assemble(model, parse_settings(asked))
    world = World(made, Opening(tiny.image(), "a garden", 1), first_frame=0, capacity=8)
    return sample(world, np.zeros((num_frames(made.spec), 4), np.float32)).latents


def test_it_goes_on_from_its_checkpoint(order):
    stage_lora("wan", order, LoraTraining(rank=2), steps=1)
    written = (order.folder / "films" / "0.safetensors").stat().st_mtime_ns
    stage_lora("wan", order, LoraTraining(rank=2), steps=2)
    assert (order.folder / "films" / "0.safetensors").stat().st_mtime_ns == written


ENCODING = ("AutoencoderKLWan", "UMT5EncoderModel", "AutoencoderKLHunyuanVideo", "LlamaModel", "CLIPTextModel")


def in_memory():
    """What encodes and has weights."""
    modules = [one for one in gc.get_objects() if type(one).__name__ in (*ENCODING, "SiglipVisionModel")]
    return {weakref.ref(one) for one in modules if any(not weight.is_meta for weight in one.parameters())}


@pytest.mark.parametrize("model", ["wan", "framepack-f1"])
def test_what_encodes_is_gone_before_the_transformer_is_read(order, model):
    official.write_framepack(order.weights.roots[0], tiny_hunyuan.parts())
    others, told = in_memory(), {}
    task = TASKS[model](
        model, replace(order, tell=lambda what: told.update({what: in_memory() - others})), LoraTraining()
    )
    assert list(told)[-2:] == ["2 films are encoded", "prompts and start images are encoded"]
    assert set(map(len, told.values())) == {0}
    assert torch.isfinite(task.loss(0)["loss"])


def test_what_is_missing_is_said(order, tmp_path):
    with pytest.raises(LoraError, match="one of wan, wan-14b, framepack-f1, rooms, got 'clouds'"):
        stage_lora("clouds", order, LoraTraining(), steps=1)
    with pytest.raises(MissingWeightsError, match="hf download Wan-AI/Wan2.1-T2V-14B-Diffusers"):
        stage_lora("wan-14b", order, LoraTraining(), steps=1)
    (tmp_path / "nothing").mkdir()
    empty = LoraOrder(order.folder, tmp_path / "nothing", order.weights)
    with pytest.raises(LoraError, match="`rewander record` makes them"):
        stage_lora("wan", empty, LoraTraining(), steps=1)


def test_what_cannot_fit_is_refused_before_weights_are_read(order):
    for file in order.weights.roots[0].rglob("*.safetensors"):
        file.write_bytes(b"nobody reads this")
    told = []
    with pytest.raises(DoesNotFitError, match="of free memory to train, got 0.0 GB"):
        stage_lora("wan", replace(order, memory=1, tell=told.append), LoraTraining(), steps=1)
    assert told[0] == "training wan" and told[1].startswith("peak ") and "transformer" in told[1]
    with pytest.raises(WrongWeightsError, match="^transformer"):
        stage_lora("wan", order, LoraTraining(), steps=1)
    assert not (order.folder / "films").exists()


def test_smaller_frames_are_offered(order):
    with pytest.raises(DoesNotFitError, match="; --size 736x416 would take"):
        stage_lora("wan", replace(order, frame_shape=(4096, 4096), memory=400_000_000), LoraTraining(), steps=1)


def test_phrases_are_the_operators(order, tmp_path):
    (tmp_path / "phrases.json").write_text("{}")
    with pytest.raises(CameraError, match="phrases.json"):
        stage_lora("wan", replace(order, phrases=tmp_path / "phrases.json"), LoraTraining(), steps=1)
    axes = [{"name": name, "forward": "", "backward": ""} for name in ("a", "b")]  # fewer than the episodes have
    (tmp_path / "phrases.json").write_text(json.dumps(axes))
    with pytest.raises(FilmError, match="the camera's 2 axes"):
        stage_lora("wan", replace(order, phrases=tmp_path / "phrases.json"), LoraTraining(), steps=1)
