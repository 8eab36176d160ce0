"""Shapes tell which Wan it is, and which it is not."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoints.catalog import WAN_14B_REPO, WAN_REPO, components
from model.checkpoints.places import Found, WrongWeightsError, stand_in
from model.checkpoints.wan_names import original
from model.checkpoints.wan_shapes import settings_of
from tests.model.wan import tiny

WIDE = {"attention_head_dim": 128, "text_dim": 24, "freq_dim": 32, "num_layers": 3}


def stored(folder: Path, weights: dict[str, torch.Tensor], *, model: str = "wan") -> Found:
    path = folder / "wan.safetensors"
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path)
    return stand_in(components(model)["transformer"], path)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
@pytest.mark.parametrize("rename", [original, str])
def test_a_configuration_is_what_the_network_was_made_of(tmp_path, prefix, rename):
    network = tiny.transformer(**WIDE)
    weights = {prefix + rename(name): weight for name, weight in network.state_dict().items()}
    settings = settings_of(stored(tmp_path, weights), channels=16)
    assert settings.items() <= dict(network.config).items()
    assert {"num_attention_heads", "ffn_dim", "in_channels", "out_channels", "patch_size", *WIDE} == set(settings)


def released(heads: int, ffn: int, blocks: int) -> dict[str, torch.Tensor]:
    """What is looked at, of a size that was released."""
    shapes = {
        "patch_embedding.weight": (128 * heads, 16, 1, 2, 2),
        "text_embedding.0.weight": (1, 4096),
        "time_embedding.0.weight": (1, 256),
        "blocks.0.ffn.0.weight": (ffn, 1),
        "head.head.weight": (64, 1),
    }
    shapes |= {f"blocks.{i}.modulation": (1,) for i in range(blocks)}
    return {name: torch.zeros(shape, dtype=torch.float8_e4m3fn) for name, shape in shapes.items()}


def test_the_other_size_is_refused_with_its_name(tmp_path):
    small, large = released(12, 8960, 30), released(40, 13824, 40)
    assert settings_of(stored(tmp_path, small), channels=16)["num_layers"] == 30
    assert settings_of(stored(tmp_path, large, model="wan-14b"), channels=16)["num_attention_heads"] == 40
    for weights, model, said in (
        (large, "wan", "1.3B shape, got the 14B one"),
        (small, "wan-14b", "14B shape, got"),
    ):
        with pytest.raises(WrongWeightsError, match=said):
            settings_of(stored(tmp_path, weights, model=model), channels=16)
    with pytest.raises(WrongWeightsError, match="name the model wan-14b"):
        settings_of(stored(tmp_path, large), channels=16)


IMAGES = {"image_dim": 8, "added_kv_proj_dim": 128}
WRONG = {
    "no Wan": ({"double_blocks.0.img_attn.qkv.weight": torch.ones(2)}, "with patch_embedding.* got double_blocks.0"),
    "another projection": (dict(tiny.transformer(**WIDE).state_dict()) | {"proj_out.weight": torch.ones(2)}, r"\(2,\)"),
    "sees images": (tiny.transformer(**WIDE, **IMAGES).state_dict(), "an image encoder's projection"),
    "is given images": (tiny.transformer(**WIDE, in_channels=36).state_dict(), "got one with 36 in and 16 out"),
    "narrow": (tiny.transformer().state_dict(), "whole heads of 128, got 32"),
}


@pytest.mark.parametrize(("weights", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_played_is_said_with_where_it_is_and_what_can(tmp_path, weights, said):
    fetch = f"hf download {WAN_REPO} --include 'transformer/*'"
    with pytest.raises(WrongWeightsError, match=said) as caught:
        settings_of(stored(tmp_path, weights), channels=16)
    assert all(part in str(caught.value) for part in (str(tmp_path), "wan.safetensors", fetch))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "wan.safetensors").write_bytes(b"<html>")
    found = stand_in(components("wan-14b")["transformer"], tmp_path / "wan.safetensors")
    with pytest.raises(WrongWeightsError, match=f"expected safetensors in .*{re.escape(WAN_14B_REPO)}"):
        settings_of(found, channels=16)
