"""What LoRA files change in full beside their pairs, as those of Wans distilled to few steps do."""

from pathlib import Path

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_wan_lora_to_diffusers
from safetensors.torch import save_file

from model.checkpoints.lora import LoraError, apply_lora, merge_lora, read_lora
from model.checkpoints.lora_names import SINGLE
from model.checkpoints.wan_names import original
from tests.model.hunyuan import tiny as tiny_hunyuan
from tests.model.wan import tiny

ENDINGS = {"weight": ".diff", "bias": ".diff_b", "modulation": ".diff_m"}


def in_full(before: torch.nn.Module, after: torch.nn.Module) -> dict[str, torch.Tensor]:
    """How they differ, by Wan's own names."""
    weights, out = after.state_dict(), {}
    for name, weight in before.state_dict().items():
        base, _, kind = f"diffusion_model.{original(name)}".rpartition(".")
        out[base + ENDINGS[kind]] = weights[name] - weight
    return out


def test_they_make_the_other_network_at_full_strength(tmp_path: Path) -> None:
    """Of every weight, bias, norm and modulation."""
    one, other = (tiny.transformer(seed=seed) for seed in (0, 1))
    for parameter in [p for name, p in other.named_parameters() if "norm" in name]:
        parameter.data += 0.1
    save_file(in_full(one, other), tmp_path / "a.safetensors")
    changes = read_lora(tmp_path / "a.safetensors", one)
    assert len(changes) == len(one.state_dict())
    halfway = {name: (weight + other.state_dict()[name]) / 2 for name, weight in one.state_dict().items()}
    for expected in (halfway, other.state_dict()):
        merge_lora(one, changes, strength=0.5)
        for name, weight in one.state_dict().items():
            torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)


def test_beside_pairs_they_are_diffusers_own(tmp_path: Path) -> None:
    network, random = tiny.transformer(), torch.Generator().manual_seed(0)
    tensors = {}
    for name, linear in network.named_modules():
        if isinstance(linear, torch.nn.Linear):
            sizes = {"lora_up.weight": (linear.out_features, 2), "lora_down.weight": (2, linear.in_features)}
            for ending, size in (sizes | {"diff_b": (linear.out_features,)}).items():
                tensors[f"diffusion_model.{original(name)}.{ending}"] = torch.randn(size, generator=random)
    save_file(tensors, tmp_path / "a.safetensors")
    changes = read_lora(tmp_path / "a.safetensors", network)
    theirs = _convert_non_diffusers_wan_lora_to_diffusers(dict(tensors))
    biases = {name.removeprefix("transformer."): bias for name, bias in theirs.items() if name.endswith(".bias")}
    assert len(theirs) == len(tensors) == 3 * len(biases) and len(changes) == 2 * len(biases)
    for name, bias in biases.items():
        assert torch.equal(changes[name.replace(".lora_B", "")].by, bias)


def test_those_of_fused_weights_are_split(tmp_path: Path) -> None:
    network = tiny_hunyuan.parts(num_layers=2, num_single_layers=2).transformer
    parts = [network.get_submodule(f"single_transformer_blocks.1.{part}") for part in SINGLE["linear1"]]
    by = torch.randn(sum(part.out_features for part in parts))
    expected = torch.cat([part.bias for part in parts]) + by
    save_file({"lora_unet_single_blocks_1_linear1.diff_b": by}, tmp_path / "a.safetensors")
    merge_lora(network, read_lora(tmp_path / "a.safetensors", network))
    assert torch.equal(torch.cat([part.bias for part in parts]), expected)


def test_those_that_cannot_be_are_refused(tmp_path: Path) -> None:
    network, path = tiny.transformer(), tmp_path / "a.safetensors"
    save_file({"blocks.0.self_attn.q.diff_b": torch.zeros(3)}, path)
    with pytest.raises(LoraError, match=r"expected a change of \(32,\) for blocks.0.self_attn.q.bias .* got \(3,\)"):
        read_lora(path, network)
    save_file({f"blocks.0.{name}.diff_b": torch.zeros(32) for name in ("self_attn.q", "attn1.to_q")}, path)
    with pytest.raises(LoraError, match=r"got two of blocks.0.attn1.to_q.bias"):
        read_lora(path, network)
    save_file({"blocks.0.norm3.diff": torch.zeros(32)}, path)
    with pytest.raises(LoraError, match=r"low rank beside the weights, got another of blocks.0.norm2.weight"):
        apply_lora(network, read_lora(path, network), name="style")
