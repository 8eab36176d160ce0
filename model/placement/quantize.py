"""Weights in fewer bits: fp8 by diffusers alone; int8 by torchao and nf4 by bitsandbytes, which are optional.

Only the Linear modules of blocks are quantized: what is outside of them is small and worth its bits.
"""

import importlib
from collections.abc import Iterator
from typing import Any

import torch
from diffusers.hooks.layerwise_casting import apply_layerwise_casting_hook
from torch import nn

from .plan import Quantized

PACKAGES: dict[Quantized, str] = {"int8": "torchao.quantization", "nf4": "bitsandbytes"}
FP8 = torch.float8_e4m3fn


class QuantizerMissingError(ValueError):
    """The package that quantizes is not installed; the message says how to get it."""


def check_quantizer(quantized: Quantized) -> None:
    """Before weights are read; raises QuantizerMissingError."""
    if quantized in PACKAGES:
        _package(quantized)


def quantize(denoiser: nn.Module, quantized: Quantized, *, device: torch.device, compute: torch.dtype) -> None:
    """Quantize the blocks of `denoiser` on `device`, one layer after the other, to be multiplied as `compute`.

    Raises QuantizerMissingError. For "" it does nothing.
    """
    if quantized == "fp8":
        for _, _, linear in list(linears_of_blocks(denoiser)):
            apply_layerwise_casting_hook(linear, FP8, compute, non_blocking=False)
    elif quantized == "int8":
        _to_int8(denoiser, device)
    elif quantized == "nf4":
        _to_nf4(denoiser, device, compute)


def linears_of_blocks(denoiser: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Every Linear module in a list of blocks that is a direct child, with its owner and its name there."""
    for child in denoiser.children():
        if isinstance(child, nn.ModuleList):
            for owner in child.modules():
                for name, module in owner.named_children():
                    if isinstance(module, nn.Linear):
                        yield owner, name, module


def _to_int8(denoiser: nn.Module, device: torch.device) -> None:
    quantization = _package("int8")
    for _, _, linear in list(linears_of_blocks(denoiser)):
        linear.to(device)
        quantization.quantize_(linear, quantization.Int8WeightOnlyConfig())


def _to_nf4(denoiser: nn.Module, device: torch.device, compute: torch.dtype) -> None:
    layers = _package("nf4").nn
    for owner, name, linear in list(linears_of_blocks(denoiser)):
        packed = layers.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=compute,
            compress_statistics=False,
            quant_type="nf4",
            device="meta",
        )
        packed.weight = layers.Params4bit(
            linear.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=False, module=packed
        )
        packed.bias = linear.bias
        setattr(owner, name, packed.to(device))


def _package(quantized: Quantized) -> Any:
    name = PACKAGES[quantized]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise QuantizerMissingError(
            f"expected {name.split('.')[0]} for {quantized} weights, which is not installed: "
            "pip install 'rewander[quantized]'"
        ) from error
