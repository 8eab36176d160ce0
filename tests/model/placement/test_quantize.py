"""Fewer bits: nearly the same result from fewer bytes, and a clear word where the package is missing."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from model.hunyuan.network import Denoiser
from model.placement.plan import BYTES_PER_WEIGHT
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


def num_bytes(of: Denoiser) -> int:
    """Of the weights of Linear modules within blocks, scales included."""
    return sum(part.nbytes for _, _, linear in linears_of_blocks(of) for part in kept(linear.weight))


def kept(weight: torch.Tensor) -> list[torch.Tensor]:
    """What a weight is stored as: torchao's is a tensor of tensors, bitsandbytes' has its scales beside it."""
    if hasattr(weight, "quant_state"):
        return [weight.data, weight.quant_state.absmax]
    if hasattr(weight, "__tensor_flatten__"):
        return [getattr(weight, name) for name in ("qdata", "scale")]
    return [weight.data]


@contextmanager
def without(package: str) -> Iterator[None]:
    """Python refuses to import what None stands for."""
    there = sys.modules.get(package)
    sys.modules[package] = None
    try:
        yield
    finally:
        sys.modules.pop(package)
        if there:
            sys.modules[package] = there


@torch.no_grad()
@pytest.mark.parametrize(("quantized", "error"), [("fp8", 0.05), ("int8", 0.02), ("nf4", 0.2)])
@pytest.mark.filterwarnings("ignore")  # of packages that are not ours
def test_the_result_is_nearly_the_same_from_as_few_bytes_as_a_plan_says(quantized, error) -> None:
    check_quantizer(quantized)
    exact, coarse = denoiser(), denoiser()
    num_weights = num_bytes(exact) // 4
    quantize(coarse, quantized, device=CPU, compute=torch.float32)
    expected, got = result(exact), result(coarse)
    assert got.shape == expected.shape and got.dtype == expected.dtype
    assert 0 < (got - expected).norm() < error * expected.norm()
    # int8 has one scale for each row, and these are short
    assert 1 <= num_bytes(coarse) / (BYTES_PER_WEIGHT[quantized] * num_weights) < 1.1


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
    missing = pytest.raises(QuantizerMissingError, match=r"which is not installed: pip install 'rewander\[quantized\]'")
    with without(PACKAGES[quantized]), missing:
        check_quantizer(quantized)


def test_what_needs_no_package_is_fine() -> None:
    check_quantizer("")
    check_quantizer("fp8")
