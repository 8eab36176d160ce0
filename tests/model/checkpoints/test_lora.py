"""One LoRA in every dialect gives the same weights: those that the fused projections give when they are changed."""

import json
from pathlib import Path

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import (
    _convert_hunyuan_video_lora_to_diffusers,
    _convert_musubi_wan_lora_to_diffusers,
    _convert_non_diffusers_wan_lora_to_diffusers,
)
from safetensors.torch import save_file

from model.checkpoints.lora import LoraError, apply_lora, merge_lora, read_lora
from model.checkpoints.lora_names import DOUBLE, LISTS, SINGLE, parameter_names
from model.checkpoints.wan_names import original as original_of_wan
from tests.model.hunyuan import tiny
from tests.model.wan import tiny as tiny_wan

RANK, ALPHA = 4, 2.0


def transformer() -> torch.nn.Module:
    return tiny.parts(num_layers=2, num_single_layers=2).transformer


def original_changes(of: torch.nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Random (up, down) by HunyuanVideo's names, fused where it fuses."""
    random = torch.Generator().manual_seed(1)
    out = {}
    for own, original, parts in LISTS[:2]:
        for i in range(len(of.get_submodule(own))):
            for part, targets in parts.items():
                linears = [of.get_submodule(f"{own}.{i}.{target}") for target in targets]
                shape = sum(linear.out_features for linear in linears), linears[0].in_features
                up = torch.randn(shape[0], RANK, generator=random)
                out[f"{original}.{i}.{part}"] = up, torch.randn(RANK, shape[1], generator=random)
    return out


def expected_weights(of: torch.nn.Module, *, strength: float = 1.0) -> dict[str, torch.Tensor]:
    """By the definition: the fused weight (q, k, v, ...) is changed and split again."""
    weights = {name: weight.clone() for name, weight in of.state_dict().items()}
    for name, (up, down) in original_changes(of).items():
        kind, i, part = name.split(".", 2)
        (own, targets) = next((own, parts[part]) for own, original, parts in LISTS if original == kind)
        keys = [f"{own}.{i}.{target}.weight" for target in targets]
        fused = torch.cat([weights[key] for key in keys]) + strength * ALPHA / RANK * up @ down
        weights |= dict(zip(keys, fused.split([len(weights[key]) for key in keys]), strict=True))
    return weights


def kohya_pair(name: str, up: torch.Tensor, down: torch.Tensor) -> dict[str, torch.Tensor]:
    base = "lora_unet_" + name.replace(".", "_")
    return {f"{base}.lora_up.weight": up, f"{base}.lora_down.weight": down, f"{base}.alpha": torch.tensor(ALPHA)}


def kohya(of: torch.nn.Module) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, (up, down) in original_changes(of).items():
        base = "lora_unet_" + name.replace(".", "_")
        tensors |= {
            f"{base}.lora_up.weight": up,
            f"{base}.lora_down.weight": down,
            f"{base}.alpha": torch.tensor(ALPHA),
        }
    return tensors


def original(of: torch.nn.Module) -> dict[str, torch.Tensor]:
    """As diffusion-pipe writes it: no alpha, so it is in the weights."""
    tensors = {}
    for name, (up, down) in original_changes(of).items():
        base = f"diffusion_model.{name}"
        tensors |= {f"{base}.lora_B.weight": up * ALPHA / RANK, f"{base}.lora_A.weight": down}
    return tensors


def comfy(of: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The other code base's spelling of the same names."""
    spellings = (
        ("_attn_", "_attn."),
        (".fc1", ".0"),
        (".fc2", ".2"),
        ("mod.linear", "mod.lin"),
        ("ation.linear", "ation.lin"),
    )
    tensors = original(of)
    for old, new in spellings:
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    return tensors


def split(of: torch.nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    names, out = parameter_names(of), {}
    for name, (up, down) in original_changes(of).items():
        targets = [target.removesuffix(".weight") for target in names[f"{name}.weight".replace(".", "_")]]
        ups = up.split([of.get_submodule(target).out_features for target in targets])
        out |= {target: (part, down.clone()) for target, part in zip(targets, ups, strict=True)}
    return out


def peft(of: torch.nn.Module) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, (up, down) in split(of).items():
        base = f"transformer.{name}"
        tensors |= {f"{base}.lora_B.weight": up, f"{base}.lora_A.weight": down}
    return tensors


def kohya_of_diffusers(of: torch.nn.Module) -> dict[str, torch.Tensor]:
    """As musubi-tuner trains FramePack itself."""
    tensors = {}
    for name, (up, down) in split(of).items():
        base = "lora_unet_" + name.replace(".", "_")
        tensors |= {
            f"{base}.lora_up.weight": up,
            f"{base}.lora_down.weight": down,
            f"{base}.alpha": torch.tensor(ALPHA),
        }
    return tensors


DIALECTS = {d.__name__: d for d in (kohya, original, comfy, peft, kohya_of_diffusers)}


def write(path: Path, dialect: str, of: torch.nn.Module) -> Path:
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": ALPHA, "transformer.r": RANK})}
    save_file(
        {name: tensor.contiguous() for name, tensor in DIALECTS[dialect](of).items()},
        path,
        metadata if dialect == "peft" else None,
    )
    return path


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_every_dialect_merges_to_the_same_weights(tmp_path: Path, dialect: str, strength: float) -> None:
    network = transformer()
    expected = expected_weights(network, strength=strength)
    changes = read_lora(write(tmp_path / "a.safetensors", dialect, network), network)
    assert len(changes) == 2 * sum(map(len, [*DOUBLE.values(), *SINGLE.values()]))
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    merge_lora(network, changes, strength=strength)
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-5)
        assert torch.equal(weight, before[name]) == (name not in changes)


def test_names_equal_diffusers_own_conversion(tmp_path: Path) -> None:
    network = transformer()
    tensors = {name: tensor for name, tensor in original(network).items() if ".linear1." not in name}  # it wants 3072
    save_file(tensors, tmp_path / "a.safetensors")
    changes = read_lora(tmp_path / "a.safetensors", network)
    theirs = _convert_hunyuan_video_lora_to_diffusers(tensors)
    assert len(theirs) == 2 * len(changes)
    for name, change in changes.items():
        base = f"transformer.{name.removesuffix('.weight')}"
        assert torch.equal(theirs[f"{base}.lora_A.weight"], change.down)
        assert torch.equal(theirs[f"{base}.lora_B.weight"], change.up)


def wan_changes(of: torch.nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Random (up, down) by Wan's own names, of all modules that have one."""
    random, out = torch.Generator().manual_seed(1), {}
    linears = {name: module for name, module in of.named_modules() if isinstance(module, torch.nn.Linear)}
    for name, linear in linears.items():
        up = torch.randn(linear.out_features, RANK, generator=random)
        out[original_of_wan(name)] = up, torch.randn(RANK, linear.in_features, generator=random)
    return out


@pytest.mark.parametrize("spelling", ["lora_A and lora_B", "lora_down and lora_up", "kohya's"])
def test_names_of_wan_equal_diffusers_own_conversion(tmp_path: Path, spelling: str) -> None:
    network = tiny_wan.transformer(image_dim=8, added_kv_proj_dim=32)
    linears = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)]
    tensors, convert = {}, _convert_non_diffusers_wan_lora_to_diffusers
    down_name, up_name = ("lora_A", "lora_B") if spelling == "lora_A and lora_B" else ("lora_down", "lora_up")
    for name, (up, down) in wan_changes(network).items():
        base, is_in_block = f"diffusion_model.{name}", name.startswith("blocks.")
        if spelling == "kohya's":
            base, convert = "lora_unet_" + name.replace(".", "_"), _convert_musubi_wan_lora_to_diffusers
        if spelling != "kohya's" or is_in_block:
            tensors |= {f"{base}.{up_name}.weight": up, f"{base}.{down_name}.weight": down}
            tensors |= {f"{base}.alpha": torch.tensor(ALPHA)} if is_in_block else {}  # it knows of no others
    save_file(tensors, tmp_path / "a.safetensors")
    changes = read_lora(tmp_path / "a.safetensors", network)
    theirs = convert(tensors)
    expected = {f"{name}.weight" for name in linears if spelling != "kohya's" or name.startswith("blocks.")}
    assert set(changes) == expected
    assert len(theirs) == 2 * len(changes)
    for name, change in changes.items():
        down, up = (theirs[f"transformer.{name.removesuffix('weight')}lora_{one}.weight"] for one in "AB")
        torch.testing.assert_close(change.scale * change.up @ change.down, up @ down)


def test_names_of_wan_are_no_other_networks(tmp_path: Path) -> None:
    save_file({f"head.head.lora_{one}.weight": torch.zeros(4, 4) for one in "AB"}, tmp_path / "a.safetensors")
    with pytest.raises(LoraError, match="1 of others, such as head.head"):
        read_lora(tmp_path / "a.safetensors", transformer())


def test_alpha_may_stand_in_a_file_beside_it(tmp_path: Path) -> None:
    network = transformer()
    save_file(peft(network), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": ALPHA, "r": RANK}))
    changes = read_lora(tmp_path / "adapter_model.safetensors", network)
    assert {change.scale for change in changes.values()} == {ALPHA / RANK}


def test_beside_the_weights_it_computes_what_it_computes_merged(tmp_path: Path) -> None:
    beside, merged = transformer(), transformer()
    changes = read_lora(write(tmp_path / "a.safetensors", "kohya", beside), beside)
    merge_lora(merged, changes, strength=0.5)
    apply_lora(beside, changes, name="style", strength=0.5)
    x = torch.randn(3, 20)
    for name in ("transformer_blocks.1.attn.add_v_proj", "single_transformer_blocks.0.proj_mlp"):
        torch.testing.assert_close(beside.get_submodule(name)(x), merged.get_submodule(name)(x))
    beside.disable_lora()
    assert torch.equal(beside.get_submodule(name)(x), transformer().get_submodule(name)(x))


def test_modules_of_another_network_are_named(tmp_path: Path) -> None:
    network, tensors = transformer(), kohya(transformer())
    save_file({name.replace("blocks_1", "blocks_7"): t for name, t in tensors.items()}, tmp_path / "a.safetensors")
    nearest = "such as double_blocks_._img_attn_proj_weight, in .*13 of others, such as lora_unet_double_blocks_7_img_"
    with pytest.raises(LoraError, match=nearest):
        read_lora(tmp_path / "a.safetensors", network)


def test_another_size_is_named(tmp_path: Path) -> None:
    network = transformer()
    tensors = {name: tensor[..., :-1] if "lora_down" in name else tensor for name, tensor in kohya(network).items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "a.safetensors")
    with pytest.raises(LoraError, match=r"expected a change of \(\d+, 20\) for .* times \(4, 19\)"):
        read_lora(tmp_path / "a.safetensors", network)


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.zeros(4, 20)},
        {"lora_unet_double_blocks_0_img_attn_qkv.hada_w1_a": torch.zeros(4, 20)},
        {"transformer_blocks.0.attn.to_q.dora_scale": torch.zeros(4)},
        {"diffusion_model.blocks.0.self_attn.q.diff_b": torch.zeros(4)},
    ],
)
def test_other_adapters_are_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(LoraError, match="a.safetensors, got"):
        read_lora(tmp_path / "a.safetensors", transformer())


def test_what_is_no_file_of_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"holiday")
    with pytest.raises(LoraError, match="a.safetensors"):
        read_lora(tmp_path / "a.safetensors", transformer())
