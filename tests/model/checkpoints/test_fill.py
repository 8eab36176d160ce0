"""Outlines take no memory, and are filled by name, shape and type; what is tied stays tied."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from model.checkpoints.fill import Target, check_fit, fill, outline, slots_of
from model.checkpoints.places import Component, Found, WrongWeightsError
from model.checkpoints.wan_names import original
from tests.model.wan import tiny

CPU = torch.device("cpu")


class Net(nn.Module):
    """A constant, and weights of two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 2, bias=False)
        self.register_buffer("steps", torch.arange(4.0), persistent=False)


def stored(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Found:
    save_file(tensors, tmp_path / "a.safetensors")
    return Found(Component("net", "owner/name", "net", "a"), tmp_path, (tmp_path / "a.safetensors",))


def weights(prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in Net().state_dict().items()}


def test_an_outline_has_shapes_and_real_constants() -> None:
    net = outline(Net)
    assert {p.device.type for p in net.parameters()} == {"meta"} and not net.training
    assert torch.equal(net.steps, torch.arange(4.0))


@pytest.mark.parametrize("prefix", ["", "model.", "transformer.", "model.diffusion_model."])
def test_names_may_have_a_prefix(tmp_path: Path, prefix: str) -> None:
    written = weights(prefix)
    net = fill(outline(Net), stored(tmp_path, written), Target(CPU, torch.float32))
    assert {prefix + name for name in net.state_dict()} == set(written)
    assert torch.equal(net.last.weight, written[f"{prefix}last.weight"])
    assert torch.equal(net.steps, torch.arange(4.0))


def test_what_does_not_fit_is_known_by_its_head(tmp_path: Path) -> None:
    net = outline(Net)
    check_fit(net, stored(tmp_path, weights("model.")))
    assert net.last.weight.is_meta
    for wrong, said in (({"last.weight": torch.zeros(3, 2)}, "shape"), ({"third.bias": torch.ones(1)}, "unknown")):
        with pytest.raises(WrongWeightsError, match=f"{said}.*hf download owner/name"):
            check_fit(net, stored(tmp_path, weights() | wrong))


def test_wans_own_names_are_a_wans_only(tmp_path: Path) -> None:
    written = tiny.transformer().state_dict()
    renamed = {f"model.diffusion_model.{original(name)}": tensor for name, tensor in written.items()}
    net = fill(outline(tiny.transformer), stored(tmp_path, renamed), Target(CPU, torch.float32))
    assert all(torch.equal(tensor, written[name]) for name, tensor in net.state_dict().items())
    with pytest.raises(WrongWeightsError, match="unknown: head.head.weight"):
        check_fit(outline(Net), stored(tmp_path, weights() | {"head.head.weight": torch.ones(1)}))


def test_what_is_precise_is_said_by_whole_names(tmp_path: Path) -> None:
    net = fill(outline(Net), stored(tmp_path, weights()), Target(CPU, torch.bfloat16, r"last\..*"))
    assert net.first.weight.dtype == net.first.bias.dtype == torch.bfloat16
    assert net.last.weight.dtype == net.steps.dtype == torch.float32


def test_weights_in_the_wanted_type_stay_in_their_file(tmp_path: Path) -> None:
    """Memory is not taken twice, and what is changed in place does not change the file."""
    found = stored(tmp_path, weights())
    before = (tmp_path / "a.safetensors").read_bytes()
    net = fill(outline(Net), found, Target(CPU, torch.float32))
    with torch.no_grad():
        net.first.weight.add_(1)
    assert (tmp_path / "a.safetensors").read_bytes() == before


def test_what_the_class_ignores_is_ignored_and_nothing_else(tmp_path: Path) -> None:
    found = stored(tmp_path, weights() | {"first.norm_added_q.weight": torch.ones(2)})
    with pytest.raises(WrongWeightsError, match="unknown: first.norm_added_q.weight"):
        fill(outline(Net), found, Target(CPU, torch.float32))
    forgiving = type("Forgiving", (Net,), {"_keys_to_ignore_on_load_unexpected": ["norm_added_q"]})
    fill(outline(forgiving), found, Target(CPU, torch.float32))


@pytest.mark.parametrize("names", [["shared.weight"], ["shared.weight", "encoder.embed_tokens.weight"]])
def test_tied_weights_are_one_by_whichever_names_they_are_stored(tmp_path: Path, names: list[str]) -> None:
    written = tiny.text_encoder().state_dict()
    tied = {"shared.weight", "encoder.embed_tokens.weight"}
    kept = {name: tensor.clone() for name, tensor in written.items() if name not in tied - set(names)}
    net = fill(outline(tiny.text_encoder), stored(tmp_path, kept), Target(CPU, torch.float32))
    assert net.shared.weight is net.encoder.embed_tokens.weight
    assert torch.equal(net.shared.weight, written["shared.weight"])


def test_slots_name_every_place_of_a_parameter() -> None:
    slots = slots_of(outline(tiny.text_encoder))
    assert slots.names["encoder.embed_tokens.weight"] == "shared.weight"
    assert len(slots.places["shared.weight"]) == 2
