"""Fewer bits: nearly the same result from fewer bytes, and a clear word where the package is missing."""

import importlib.util

import pytest
import torch

from model.hunyuan.network import Denoiser
from model.placement.quantize import PACKAGES, QuantizerMissingError, check_quantizer, linears_of_blocks, quantize
from tests.model.hunyuan import tiny

CPU = torch.device("cpu")


def denoiser() -> Denoiser:
    """Of a width that blocks of 64 weights divide."""
    wide = {"num_attention_heads": 4, "attention_head_dim": 16, "rope_axes_dim": (4, 6, 6)}
    return Denoiser(tiny.parts(num_layers=2, **wide).transformer)


def result(of: Denoiser) -> torch.Tensor:
    torch.manual_seed(0)
    block, words = of.single_transformer_blocks[0], torch.randn(1, 3, 64)
    return block(torch.randn(1, 8, 64), words, torch.randn(1, 64), None, tuple(torch.randn(2, 8, 16)))[0]


def is_missing(quantized: str) -> bool:
    name = PACKAGES.get(quantized, "torch").split(".")[0]
    return importlib.util.find_spec(name) is None


@torch.no_grad()
@pytest.mark.parametrize(("quantized", "error"), [("fp8", 0.05), ("int8", 0.02), ("nf4", 0.2)])
@pytest.mark.filterwarnings("ignore")  # of packages that are not ours
def test_the_result_is_nearly_the_same(quantized, error) -> None:
    if is_missing(quantized):
        pytest.skip(f"needs {PACKAGES[quantized]}")
    exact, coarse = denoiser(), denoiser()
    quantize(coarse, quantized, device=CPU, compute=torch.float32)
    expected, got = result(exact), result(coarse)
    assert got.shape == expected.shape and got.dtype == expected.dtype
    assert 0 < (got - expected).norm() < error * expected.norm()


def test_fp8_stores_a_byte_for_a_weight_and_leaves_what_is_outside_of_blocks() -> None:
    coarse = denoiser()
    quantize(coarse, "fp8", device=CPU, compute=torch.float32)
    inside = {linear.weight.dtype for _, _, linear in linears_of_blocks(coarse)}
    assert inside == {torch.float8_e4m3fn}
    assert coarse.proj_out.weight.dtype == coarse.patchify.proj.weight.dtype == torch.float32


def test_all_linear_modules_of_blocks_are_found() -> None:
    found = [linear for _, _, linear in linears_of_blocks(denoiser())]
    assert len(found) == len(set(found)) == 2 * 14 + 6


@pytest.mark.parametrize("quantized", PACKAGES)
def test_a_missing_package_is_named_before_weights_are_read(quantized) -> None:
    if not is_missing(quantized):
        pytest.skip(f"{PACKAGES[quantized]} is installed")
    with pytest.raises(QuantizerMissingError, match=r"which is not installed: pip install 'rewander\[quantized\]'"):
        check_quantizer(quantized)


def test_what_needs_no_package_is_fine() -> None:
    check_quantizer("")
    check_quantizer("fp8")
