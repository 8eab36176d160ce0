"""Stored tensors mean what they meant when they were saved, whatever they are stored in."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoints.places import WrongWeightsError
from model.checkpoints.weights import WeightFiles

E4M3 = torch.float8_e4m3fn


def test_tensors_of_all_shards_come_once(tmp_path: Path) -> None:
    first, second = {"a": torch.randn(3), "b": torch.randn(2, 2)}, {"c": torch.randn(1).bfloat16()}
    save_file(first, tmp_path / "1.safetensors")
    save_file(second, tmp_path / "2.safetensors")
    files = WeightFiles([tmp_path / "1.safetensors", tmp_path / "2.safetensors"])
    assert {name: stored.shape for name, stored in files.stored.items()} == {"a": (3,), "b": (2, 2), "c": (1,)}
    read = list(files)
    assert [name for name, _ in read] == ["a", "b", "c"]
    for name, tensor in read:
        assert torch.equal(tensor, (first | second)[name])


@pytest.mark.parametrize("key", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("scales", [(), (1,), (6,), (6, 1), (6, 4, 1)], ids=str)
def test_a_scaled_weight_is_brought_back(tmp_path: Path, key: str, scales: tuple[int, ...]) -> None:
    weight, scale = torch.randn(6, 8), torch.rand(scales) + 0.5
    each = scale.reshape(6, 4, 1).expand(6, 4, 2).reshape(6, 8) if scale.ndim == 3 else scale.reshape(-1, 1)
    marks = {"l.scale_input": torch.ones(()), "scaled_fp8": torch.zeros(2, dtype=E4M3)}
    save_file({"l.weight": (weight / each).to(E4M3), f"l.{key}": scale, **marks}, tmp_path / "a.safetensors")
    ((name, tensor),) = WeightFiles([tmp_path / "a.safetensors"])
    assert name == "l.weight"
    torch.testing.assert_close(tensor, weight, rtol=1 / 16, atol=1e-2)  # three bits of mantissa


def test_an_unscaled_one_is_what_it_says(tmp_path: Path) -> None:
    weight = torch.randn(6, 8).to(E4M3)
    save_file({"weight": weight}, tmp_path / "a.safetensors")
    ((_, tensor),) = WeightFiles([tmp_path / "a.safetensors"])
    assert torch.equal(tensor.float(), weight.float())


@pytest.mark.parametrize("scales", [(2,), (5,), (12,), (2, 3, 1)], ids=str)
def test_scales_that_fit_nothing_are_refused(tmp_path: Path, scales: tuple[int, ...]) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"l.weight": torch.randn(6, 8).to(E4M3), "l.scale_weight": torch.ones(scales)}, path)
    with pytest.raises(WrongWeightsError, match="expected one scale for l.weight"):
        list(WeightFiles([path]))


@pytest.mark.parametrize("content", [b"", b"<html>", None])
def test_files_that_are_none_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.safetensors"
    if content is None:  # cut while it was fetched
        save_file({"a": torch.randn(100)}, path)
        content = path.read_bytes()[:300]
    path.write_bytes(content)
    with pytest.raises(WrongWeightsError, match="a.safetensors"):
        WeightFiles([path])
