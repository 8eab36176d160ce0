"""Wan's own names are those that diffusers' conversion knows."""

from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

from model.checkpoints.wan_names import original, originals
from tests.model.hunyuan import tiny as tiny_hunyuan
from tests.model.wan import tiny


def test_every_weight_has_the_name_that_diffusers_converts_from():
    """Of a network that sees images too."""
    weights = tiny.transformer(image_dim=8, added_kv_proj_dim=32).state_dict()
    renamed = {original(name): weight for name, weight in weights.items()}
    assert len(renamed) == len(weights)
    assert {"blocks.1.self_attn.q.weight", "blocks.0.norm3.bias", "head.modulation", "head.head.bias"} <= set(renamed)
    converted = convert_wan_transformer_to_diffusers(dict(renamed))
    assert {name: id(weight) for name, weight in converted.items()} == {n: id(w) for n, w in weights.items()}


def test_only_what_differs_is_there_and_of_another_network_nothing():
    network = tiny.transformer()
    names = originals(name for name, _ in network.named_parameters())
    assert names["blocks.0.modulation"] == "blocks.0.scale_shift_table"
    assert "patch_embedding.weight" not in names and all(other != own for other, own in names.items())
    assert originals(["blocks.0.attn1.to_q", "condition_embedder.time_proj"])["blocks.0.self_attn.q"]
    others = [name for name, _ in tiny_hunyuan.parts().transformer.named_modules()]
    assert "proj_out" in others and originals(others) == {}
