"""The released models' networks in outline, for whoever has no file of them yet."""

from typing import Any

from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_helios import HeliosTransformer3DModel
from diffusers.models.transformers.transformer_hunyuan_video_framepack import HunyuanVideoFramepackTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    LlamaConfig,
    LlamaModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    UMT5Config,
    UMT5EncoderModel,
)

from ..wan.network import SHAPES
from .catalog import components
from .fill import outline
from .framepack import RELEASED


def released(model: str) -> dict[str, nn.Module]:
    """Of a model in the catalogue, by component, as their config.json files describe them.

    Raises UnknownCheckpointError.
    """
    components(model)
    if model.startswith("framepack"):
        return {
            "transformer": outline(lambda: HunyuanVideoFramepackTransformer3DModel(**RELEASED)),
            "vae": outline(AutoencoderKLHunyuanVideo),
            "text_encoder": outline(_llama),
            "text_encoder_2": outline(_clip),
            "image_encoder": outline(_siglip),
        }
    return {
        "transformer": outline(HeliosTransformer3DModel) if model == "helios" else outline(lambda: _wan(model)),
        "vae": outline(AutoencoderKLWan),
        "text_encoder": outline(_umt5),
    }


def _wan(model: str) -> WanTransformer3DModel:
    shape: Any = SHAPES["14b" if model == "wan-14b" else "1.3b"]
    return WanTransformer3DModel(**shape)  # type: ignore[no-any-return]


def _llama() -> LlamaModel:
    """Llama 3 of 8 B parameters without its head."""
    config = LlamaConfig(
        vocab_size=128_320,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    return LlamaModel(config)


def _clip() -> CLIPTextModel:
    """CLIP-L's text half."""
    return CLIPTextModel(
        CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    )


def _siglip() -> SiglipVisionModel:
    """SigLIP so400m at 384 pixels."""
    config = SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=27,
        num_attention_heads=16,
        image_size=384,
        patch_size=14,
    )
    return SiglipVisionModel(config)


def _umt5() -> UMT5EncoderModel:
    """UMT5-xxl's encoder."""
    config = UMT5Config(
        vocab_size=256_384,
        d_model=4096,
        d_kv=64,
        d_ff=10_240,
        num_layers=24,
        num_heads=64,
        feed_forward_proj="gated-gelu",
    )
    return UMT5EncoderModel(config)
