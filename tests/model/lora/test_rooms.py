"""Fine-tuning of a small `rooms`: its loss falls, a killed run goes on, and what was written plays and is evaluated."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.checkpoints.lora import LoraError
from model.checkpoints.places import Shelf
from model.drift.discretize import CODEBOOK, Codebook
from model.lora.files import LEARNED
from model.lora.rooms import RoomsTraining, rooms_task
from model.lora.stage import LoraOrder, stage_lora
from model.lora.task import LoraTask, LoraTraining, train_lora
from model.rooms.depth import Depth
from model.rooms.layout import LayoutError
from model.rooms.tuned import VARIANT
from model.rooms.weights import save_weights
from model.rooms.world import SCHEDULE, Rooms, load
from model.training.latents import Latents
from model.training.loop import Run
from model.training.sequences import Drawing
from tests.model.rooms.small import networks
from tests.model.training.episodes import data

KERNEL = "td_f8k8f4k4f2k2f1k1_g1"
INVERTED = "f2k2f1k1_x_g1_f1k1f2k2_td"
SMALL = Drawing(batch=1, targets=4)


def training(*schedules: str, noise: float = 0.0) -> RoomsTraining:
    return RoomsTraining(schedules, SMALL, noise=noise, rollouts=(0.7, 0.3), ahead=4)


@pytest.mark.parametrize(
    ("schedules", "noise", "entries"),
    [((KERNEL, INVERTED), 0.0, 0), (("td_f3k1_g1+D",), 1.0, 8)],
    ids=["schedules", "noise and codebook"],
)
def test_the_loss_falls(tmp_path: Path, schedules: tuple[str, ...], noise: float, entries: int) -> None:
    codebook = Codebook(torch.randn(entries, 16)) if entries else None
    task = rooms_task(data(), networks(), training(*schedules, noise=noise), codebook=codebook)
    before = mean_loss(task)
    train_lora(task, Run(tmp_path, 12, warmup=2, ema=0.5, checkpoint_every=3600), LoraTraining(rank=4, rate=3e-2))
    assert mean_loss(task) < 0.98 * before


def mean_loss(task: LoraTask) -> float:
    with torch.no_grad():
        return float(np.mean([task.loss(step)["loss"].item() for step in (900, 901)]))


def folder_of_latents(path: Path) -> Path:
    """As training encodes episodes."""
    path.mkdir()
    for name, array in zip(Latents._fields, data(), strict=True):
        np.save(path / f"{name}.npy", array)
    (path / "done").write_text("2")
    return path


@pytest.fixture
def order(tmp_path: Path) -> LoraOrder:
    save_weights(tmp_path / "weights", networks()._replace(depth=Depth()), torch.randn(2, 16, 16, 16))
    schedules = f"{KERNEL}+D,{INVERTED}"
    return LoraOrder(
        tmp_path / "tuned",
        folder_of_latents(tmp_path / "latents"),
        Shelf((tmp_path / "weights",)),
        schedule=schedules,
        entries=4,
    )


def test_adapters_come_out_and_play(order: LoraOrder, tmp_path: Path) -> None:
    folder = stage_lora("rooms", order, LoraTraining(rank=2, rate=1e-2), steps=1)
    codebook = (folder / CODEBOOK).read_bytes()
    assert stage_lora("rooms", order, LoraTraining(rank=2, rate=1e-2), steps=2) == folder == tmp_path / "tuned" / "lora"
    assert (folder / CODEBOOK).read_bytes() == codebook
    assert json.loads((folder / VARIANT).read_text())["schedules"] == order.schedule.split(",")
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["step"] == 2
    assert any("k8" in name for name in load_file(folder / LEARNED))
    tuned = load(tmp_path / "weights", adapters=folder, schedule=KERNEL + "+D")
    assert tuned.codebook is not None and tuned.codebook.entries.shape == (4, 16)
    plain = load(tmp_path / "weights")
    for name in ("query", "down"):
        one, other = (getattr(model.dit.blocks[0], name).weight for model in (plain, tuned))
        assert not torch.equal(one, other)
    assert played(tuned).shape == (1, 16, 16, 16)


def played(model: Rooms) -> np.ndarray:
    from server.world import Opening, World, sample

    world = World(model, Opening(None, "", 1), first_frame=0, capacity=8)
    return sample(world, np.array([[0.5, 0, 0.2]], np.float32)).latents


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoraError, match=VARIANT):
        load(adapters=tmp_path)
    with pytest.raises(ValueError, match="codebook"):
        rooms_task(data(), networks(), training(SCHEDULE + "+D"))
    with pytest.raises(ValueError, match="whole stretches"):
        RoomsTraining((SCHEDULE,), Drawing(targets=12))
    with pytest.raises(LayoutError, match="f20k1"):
        rooms_task(data(), networks(), training("f20k1_g1"))
    with pytest.raises(LoraError, match=r"without \+D.*wan"):
        stage_lora(
            "wan", LoraOrder(tmp_path, tmp_path, Shelf(()), schedule="f1k1f4k4f2k2f1k1_g2+D"), LoraTraining(), steps=1
        )
