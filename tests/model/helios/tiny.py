"""Helios in miniature, of random weights."""

import torch
from diffusers import HeliosTransformer3DModel

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
