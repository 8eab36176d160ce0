"""Helios in miniature, of random weights."""

import warnings

import torch
from diffusers import HeliosDMDScheduler, HeliosScheduler, HeliosTransformer3DModel

from model.helios.course import Plan
from model.helios.parts import Parts, helios
from model.helios.world import Helios, HeliosOptions
from model.wan.guided import Guidance
from model.wan.text import TextEncoder
from tests.model.wan import tiny as wan

TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_dim": (4, 6, 6),
}


def transformer(*, seed: int = 0, **changes: object) -> HeliosTransformer3DModel:
    torch.manual_seed(seed)
    return HeliosTransformer3DModel(**TRANSFORMER | changes).eval()


def scheduler(**changes: object) -> HeliosScheduler:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of numpy, about diffusers
        return HeliosScheduler(**{"stages": 1, "use_dynamic_shifting": True} | changes)


def distilled(**changes: object) -> HeliosDMDScheduler:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of numpy, about diffusers
        return HeliosDMDScheduler(**{"use_dynamic_shifting": True, "time_shift_type": "linear"} | changes)


def parts(*, seed: int = 0, **changes: object) -> Parts:
    """Random weights; `changes` are to the transformer's configuration."""
    own, texts = wan.parts(seed=seed), TextEncoder(wan.text_encoder(seed=seed), wan.tokenizer())
    return Parts(transformer(seed=seed, **changes), own.vae, texts, own.device)


def helios_of(of: Parts, plan: Plan, *, guidance: float = 5.0, is_projected: bool = False, **options: object) -> Helios:
    """Small and odd: latents of 6 x 10, chunks of 3."""
    defaults = {"frame_shape": (48, 80), "schedule": "td_f1k1f16k4f2k2f1k1_g3"}
    steered = Guidance(guidance, "rain falls", is_projected)
    return helios(of, plan, HeliosOptions(**defaults | options), guidance=steered)
