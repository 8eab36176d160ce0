"""What each large model is made of, by the repositories that its users have."""

from collections.abc import Mapping
from types import MappingProxyType

from .places import Component

DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"
HUNYUAN_REPO, SIGLIP_REPO = "hunyuanvideo-community/HunyuanVideo", "lllyasviel/flux_redux_bfl"
F1_REPO, I2V_REPO = "lllyasviel/FramePack_F1_I2V_HY_20250503", "lllyasviel/FramePackI2V_HY"
WAN_REPO, WAN_14B_REPO = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Wan-AI/Wan2.1-T2V-14B-Diffusers"
HELIOS_REPO = "BestWishYsh/Helios-Base"


class UnknownCheckpointError(ValueError):
    """No model of that name."""


def _framepack(repo: str) -> tuple[Component, ...]:
    return (
        Component("transformer", repo, "", DIFFUSERS),
        Component("vae", HUNYUAN_REPO, "vae", DIFFUSERS),
        Component("text_encoder", HUNYUAN_REPO, "text_encoder", TRANSFORMERS),
        Component("text_encoder_2", HUNYUAN_REPO, "text_encoder_2", TRANSFORMERS),
        Component("tokenizer", HUNYUAN_REPO, "tokenizer", config="tokenizer_config.json"),
        Component("tokenizer_2", HUNYUAN_REPO, "tokenizer_2", config="tokenizer_config.json"),
        Component("image_encoder", SIGLIP_REPO, "image_encoder", TRANSFORMERS),
        Component("feature_extractor", SIGLIP_REPO, "feature_extractor", config="preprocessor_config.json"),
    )


def _wan(repo: str) -> tuple[Component, ...]:
    return (
        Component("transformer", repo, "transformer", DIFFUSERS),
        Component("vae", repo, "vae", DIFFUSERS),
        Component("text_encoder", repo, "text_encoder", TRANSFORMERS),
        Component("tokenizer", repo, "tokenizer", config="tokenizer_config.json"),
    )


MODELS: Mapping[str, tuple[Component, ...]] = MappingProxyType(
    {
        "framepack-f1": _framepack(F1_REPO),
        "framepack-i2v": _framepack(I2V_REPO),
        "wan": _wan(WAN_REPO),
        "wan-14b": _wan(WAN_14B_REPO),
        "helios": (
            *_wan(HELIOS_REPO),
            Component("scheduler", HELIOS_REPO, "scheduler", config="scheduler_config.json"),
        ),
    }
)


def components(model: str) -> Mapping[str, Component]:
    """Those of a model, by name; raises UnknownCheckpointError."""
    if model not in MODELS:
        raise UnknownCheckpointError(f"expected one of {', '.join(MODELS)}, got {model!r}")
    return {component.name: component for component in MODELS[model]}
