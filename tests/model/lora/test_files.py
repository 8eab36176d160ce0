"""Adapters what does not fit are refused before anything is changed."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from model.checkpoints.lora import LoraError
from model.lora.files import LEARNED, LORA, fuse_lora, save_lora


def network(width=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2))


def lora(width=4, rank=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {
        "0.lora_A.weight": torch.randn(rank, 3, generator=generator),
        "0.lora_B.weight": torch.randn(width, rank, generator=generator),
    }


def test_adapters_are_added_to_the_weights(tmp_path):
    weights, patchify = lora(), nn.Linear(2, 2)
    save_lora(tmp_path, lora=weights, learned={"patchify.weight": torch.ones(2, 2), "patchify.bias": torch.zeros(2)})
    mine = network()
    fuse_lora(tmp_path, mine, learned={"patchify": patchify})
    change = mine[0].weight - network()[0].weight
    torch.testing.assert_close(change, weights["0.lora_B.weight"] @ weights["0.lora_A.weight"])
    assert torch.equal(mine[1].weight, network()[1].weight)
    assert torch.equal(patchify.weight, torch.ones(2, 2))


def test_a_coarse_network_keeps_its_type(tmp_path):
    save_lora(tmp_path, lora=lora(), learned={})
    mine = network().bfloat16()
    fuse_lora(tmp_path, mine, learned={})
    assert mine[0].weight.dtype == torch.bfloat16
    assert not torch.equal(mine[0].weight, network().bfloat16()[0].weight)


def test_adapters_of_another_network_are_refused(tmp_path):
    save_lora(tmp_path, lora=lora(width=5), learned={})
    mine = network()
    with pytest.raises(LoraError, match=r"expected a change of \(4, 3\)"):
        fuse_lora(tmp_path, mine, learned={})
    assert torch.equal(mine[0].weight, network()[0].weight)


def test_where_nothing_learned_in_full_modules_stay_as_they_are(tmp_path):
    save_lora(tmp_path, lora=lora(), learned={})
    patchify = nn.Linear(2, 2)
    before = patchify.weight.clone()
    fuse_lora(tmp_path, network(), learned={"patchify": patchify})
    assert torch.equal(patchify.weight, before)


def test_modules_that_learned_must_be_there_and_fit(tmp_path):
    save_lora(tmp_path, lora=lora(), learned={"patchify.weight": torch.ones(2, 2)})
    (tmp_path / LEARNED).unlink()
    mine = network()
    with pytest.raises(LoraError, match=f"{LEARNED} beside the adapters"):
        fuse_lora(tmp_path, mine, learned={"patchify": nn.Linear(2, 2)})
    save_file({"patchify.weight": torch.ones(3, 3)}, tmp_path / LEARNED)
    with pytest.raises(LoraError, match="got patchify.weight of another size"):
        fuse_lora(tmp_path, mine, learned={"patchify": nn.Linear(2, 2)})
    with pytest.raises(LoraError, match="expected weights of nothing"):
        fuse_lora(tmp_path, mine, learned={})
    assert torch.equal(mine[0].weight, network()[0].weight)


def test_an_empty_folder_says_what_fills_it(tmp_path):
    with pytest.raises(LoraError, match=f"{LORA}; `rewander train lora` writes it"):
        fuse_lora(tmp_path, network(), learned={})
