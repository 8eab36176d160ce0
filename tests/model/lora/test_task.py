"""LoRA on a toy network: only adapters learn, a killed run goes on, and what was learned plays without peft."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from model.lora.files import LORA, fuse_lora
from model.lora.task import LoraTask, LoraTraining, adapt, train_lora
from model.training.loop import Run

TRAINING = LoraTraining(rank=2, rate=0.02)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        for block in self.blocks:
            x = block(x).tanh()
        return self.out(x)


def parts(seed=0):
    torch.manual_seed(seed)
    return Network(), nn.Linear(4, 6)


def task_of(network, patchify, *, stop_at=None):
    torch.manual_seed(9)
    truth, truth_patchify = copy.deepcopy(network), nn.Linear(4, 6)
    truth.blocks[0].weight.data += torch.outer(torch.ones(6), torch.linspace(-1, 1, 6))

    def loss(step):
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(32, 4, generator=torch.Generator().manual_seed(step))
        with torch.no_grad():
            wanted = truth(truth_patchify(x))
        return {"loss": (network(patchify(x)) - wanted).square().mean()}

    return LoraTask(network, r"blocks\.\d+", loss, {"patchify": patchify})


def train(folder, *, steps=300, stop_at=None, save=0.0):
    network, patchify = parts()
    task = task_of(network, patchify, stop_at=stop_at)
    run = Run(folder, steps, warmup=5, ema=0.9, checkpoint_every=save)
    return task, train_lora(task, run, TRAINING)


def test_it_learns_and_the_rest_of_the_network_stays(tmp_path):
    start = task_of(*parts()).loss(1000)["loss"]
    task, _ = train(tmp_path, save=3600)
    assert task.loss(1000)["loss"] < 0.2 * start
    fresh, _ = parts()
    for i, block in enumerate(task.network.blocks):
        assert torch.equal(block.base_layer.weight, fresh.blocks[i].weight)
    assert torch.equal(task.network.out.weight, fresh.out.weight)


def test_what_was_written_plays_without_peft(tmp_path):
    _, ema = train(tmp_path, save=3600)
    network, patchify = parts()
    start = task_of(network, patchify).loss(1000)["loss"]
    task = task_of(network, patchify)
    fuse_lora(tmp_path, network, learned={"patchify": patchify})
    assert task.loss(1000)["loss"] < 0.2 * start
    assert not any("lora" in name for name, _ in network.named_parameters())
    saved = load_file(tmp_path / LORA)
    assert saved["transformer.blocks.1.lora_B.weight"].shape == (6, 2)
    assert {name.removeprefix("transformer.") for name in saved} == set(ema.lora_state())


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    _, whole = train(tmp_path / "whole", steps=40)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", steps=40, stop_at=23)
    _, resumed = train(tmp_path / "killed", steps=40)
    for one, two in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_checkpoint_is_no_larger_than_what_learns(tmp_path):
    train(tmp_path, steps=1)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    numbers = sum(weight.numel() for weight in state["model"].values())
    assert numbers == 2 * (2 * 6 + 6 * 2) + 4 * 6 + 6


def test_adapters_change_nothing_at_first_and_are_precise():
    network, patchify = parts()
    x = torch.randn(2, 4)
    before = network(patchify(x))
    adapters = adapt(task_of(network, patchify), rank=2)
    assert torch.equal(network(patchify(x)), before)
    coarse, _ = parts()
    precise = adapt(LoraTask(coarse.bfloat16(), r"blocks\.\d+", lambda _step: {}), rank=2)
    assert {weight.dtype for weight in precise.parameters()} == {torch.float32}
    assert coarse(torch.randn(2, 6).bfloat16()).dtype == torch.bfloat16
    assert len(list(adapters.parameters())) == 6


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(ValueError, match="not found"):
        adapt(LoraTask(parts()[0], r"layers\.\d+", lambda _step: {}), rank=2)
    with pytest.raises(ValueError, match="rank"):
        LoraTraining(rank=0)
