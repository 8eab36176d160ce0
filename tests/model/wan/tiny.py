"""Wan in miniature, of random weights."""

import torch
from diffusers import WanTransformer3DModel

TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 64,
}


def transformer(*, seed: int = 0, **changes: object) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    return WanTransformer3DModel(**TRANSFORMER | changes).eval()
