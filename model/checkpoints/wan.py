"""The networks of `wan` and `helios`, and what plays them: both read prompts by UMT5 and have Wan's VAE."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_helios import HeliosTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

from ..helios.parts import Parts as HeliosParts
from ..wan.framepack import Parts as WanParts
from ..wan.text import TextEncoder
from .fill import Precision
from .modules import diffusers_outline, load_tokenizer, transformers_outline
from .places import Found

PRECISION = Precision(torch.bfloat16, torch.bfloat16, torch.float32)  # as diffusers advises


def outline_wan(found: Mapping[str, Found]) -> dict[str, nn.Module]:
    """The networks without memory, by their configurations; raises WrongWeightsError."""
    return _outline(WanTransformer3DModel, found)


def outline_helios(found: Mapping[str, Found]) -> dict[str, nn.Module]:
    """As `outline_wan`."""
    return _outline(HeliosTransformer3DModel, found)


def wan_parts(modules: Mapping[str, Any], found: Mapping[str, Found], *, device: torch.device) -> WanParts:
    """What `wan.framepack.wan` makes a model of; inputs go to `device`, hooks bring weights there."""
    return WanParts(modules["transformer"], modules["vae"], _texts(modules, found, device), device)


def helios_parts(modules: Mapping[str, Any], found: Mapping[str, Found], *, device: torch.device) -> HeliosParts:
    """What `helios.parts.helios` makes a model of."""
    return HeliosParts(modules["transformer"], modules["vae"], _texts(modules, found, device), device)


def _outline(cls: type[Any], found: Mapping[str, Found]) -> dict[str, nn.Module]:
    return {
        "transformer": diffusers_outline(cls, found["transformer"]),
        "vae": diffusers_outline(AutoencoderKLWan, found["vae"]),
        "text_encoder": transformers_outline(UMT5EncoderModel, UMT5Config, found["text_encoder"]),
    }


def _texts(modules: Mapping[str, Any], found: Mapping[str, Found], device: torch.device) -> TextEncoder:
    return TextEncoder(modules["text_encoder"], load_tokenizer(found["tokenizer"]), device=device)
