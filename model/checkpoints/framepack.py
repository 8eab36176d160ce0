"""The networks of `framepack-f1` and `framepack-i2v`, and what plays them, from the files that their users have."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
from diffusers.models.transformers.transformer_hunyuan_video_framepack import HunyuanVideoFramepackTransformer3DModel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    LlamaConfig,
    LlamaModel,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from ..hunyuan.conditions import ImageEncoder, Reader, TextEncoder
from ..hunyuan.framepack import Parts
from .fill import Precision, outline
from .modules import diffusers_outline, load_tokenizer, read_config, transformers_outline
from .places import Found

OFFICIAL_CLASS = "HunyuanVideoTransformer3DModelPacked"  # what the released weights' config.json says
RELEASED = MappingProxyType({"has_image_proj": True, "has_clean_x_embedder": True})  # the rest is diffusers' default
PRECISE = r"proj_out\..*"  # the released demos project in float32
PRECISION = Precision(torch.bfloat16, torch.float16, torch.float16)


def outline_framepack(found: Mapping[str, Found]) -> dict[str, nn.Module]:
    """The networks without memory, by their configurations; raises WrongWeightsError."""
    return {
        "transformer": _outline_transformer(found["transformer"]),
        "vae": diffusers_outline(AutoencoderKLHunyuanVideo, found["vae"]),
        "text_encoder": transformers_outline(LlamaModel, LlamaConfig, found["text_encoder"]),
        "text_encoder_2": transformers_outline(CLIPTextModel, CLIPTextConfig, found["text_encoder_2"]),
        "image_encoder": transformers_outline(SiglipVisionModel, SiglipVisionConfig, found["image_encoder"]),
    }


def framepack_parts(modules: Mapping[str, Any], found: Mapping[str, Found], *, device: torch.device) -> Parts:
    """What `hunyuan.framepack.framepack` makes a model of; inputs go to `device`, hooks bring weights there."""
    texts = TextEncoder(
        Reader(modules["text_encoder"], load_tokenizer(found["tokenizer"])),
        Reader(modules["text_encoder_2"], load_tokenizer(found["tokenizer_2"])),
        device=device,
    )
    settings = read_config(found["feature_extractor"])
    processor = SiglipImageProcessorPil(**{k: v for k, v in settings.items() if not k.endswith(("_type", "_class"))})
    images = ImageEncoder(modules["image_encoder"], processor, device=device)
    return Parts(modules["transformer"], modules["vae"], texts, images, device)


def _outline_transformer(found: Found) -> nn.Module:
    cls = HunyuanVideoFramepackTransformer3DModel
    if found.is_configured:
        return diffusers_outline(cls, found, also=(OFFICIAL_CLASS,))  # type: ignore[no-any-return]
    return outline(lambda: cls(**RELEASED))  # type: ignore[no-any-return] # a single file alone is of the released size
