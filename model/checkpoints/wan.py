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
from .fill import Precision, outline
from .modules import diffusers_outline, load_tokenizer, read_config, transformers_outline
from .places import Found
from .wan_shapes import settings_of

ORIGINAL_CLASS = "WanModel"  # what config.json says in Wan's own repositories
PRECISION = Precision(torch.bfloat16, torch.bfloat16, torch.float32)  # as diffusers advises


def outline_wan(found: Mapping[str, Found]) -> dict[str, nn.Module]:
    """The networks without memory, by their configurations or by the shapes of a transformer that comes without one.

    Raises WrongWeightsError.
    """
    vae, transformer = diffusers_outline(AutoencoderKLWan, found["vae"]), found["transformer"]
    if _is_original(transformer):
        settings = settings_of(transformer, channels=vae.config.z_dim)
        return _networks(outline(lambda: WanTransformer3DModel(**settings)), vae, found)
    return _networks(diffusers_outline(WanTransformer3DModel, transformer), vae, found)


def outline_helios(found: Mapping[str, Found]) -> dict[str, nn.Module]:
    """As `outline_wan`; a single file alone is of the released size."""
    cls, own = HeliosTransformer3DModel, found["transformer"]
    transformer = diffusers_outline(cls, own) if own.is_configured else outline(cls)
    return _networks(transformer, diffusers_outline(AutoencoderKLWan, found["vae"]), found)


def wan_parts(modules: Mapping[str, Any], found: Mapping[str, Found], *, device: torch.device) -> WanParts:
    """What `wan.framepack.wan` makes a model of; inputs go to `device`, hooks bring weights there."""
    return WanParts(modules["transformer"], modules["vae"], _texts(modules, found, device), device)


def helios_parts(modules: Mapping[str, Any], found: Mapping[str, Found], *, device: torch.device) -> HeliosParts:
    """What `helios.parts.helios` makes a model of."""
    return HeliosParts(modules["transformer"], modules["vae"], _texts(modules, found, device), device)


def _is_original(transformer: Found) -> bool:
    """Whether nothing of diffusers' says what it is; Wan's own repositories have a configuration of their own kind."""
    return not transformer.is_configured or read_config(transformer).get("_class_name") in (None, ORIGINAL_CLASS)


def _networks(transformer: nn.Module, vae: nn.Module, found: Mapping[str, Found]) -> dict[str, nn.Module]:
    text_encoder = transformers_outline(UMT5EncoderModel, UMT5Config, found["text_encoder"])
    return {"transformer": transformer, "vae": vae, "text_encoder": text_encoder}


def _texts(modules: Mapping[str, Any], found: Mapping[str, Found], device: torch.device) -> TextEncoder:
    return TextEncoder(modules["text_encoder"], load_tokenizer(found["tokenizer"]), device=device)
