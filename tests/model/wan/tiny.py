"""Wan in miniature, of random weights."""

import re
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKLWan, ModelMixin, WanTransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from model.framepack.options import Options
from model.framepack.world import FramePack
from model.wan.framepack import Parts, wan
from model.wan.guided import Guidance
from model.wan.text import TextEncoder

WORDS = "a cat walks through the garden camera pans moves to right left forward backward . slowly rain falls & fish"
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


def coarse(network: ModelMixin) -> ModelMixin:
    """In bfloat16, but for what diffusers keeps in float32."""
    precise = re.compile("|".join(network._keep_in_fp32_modules))
    for name, parameter in network.named_parameters():
        if not precise.search(name):
            parameter.data = parameter.data.bfloat16()
    return network


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *dict.fromkeys(WORDS.split())])}
    tokens = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")


def text_encoder(*, seed: int = 0) -> UMT5EncoderModel:
    torch.manual_seed(seed)
    config = UMT5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
    return UMT5EncoderModel(config).eval()


def vae(*, seed: int = 0) -> AutoencoderKLWan:
    torch.manual_seed(seed)
    return AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval()


def parts(*, seed: int = 0, **changes: object) -> Parts:
    """Random weights; `changes` are to the transformer's configuration."""
    texts = TextEncoder(text_encoder(seed=seed), tokenizer())
    return Parts(transformer(seed=seed, **changes), vae(seed=seed), texts, torch.device("cpu"))


def wan_of(of: Parts, *, guidance: float = 5.0, starts: Sequence[np.ndarray] = (), **options: object) -> FramePack:
    """Small and odd: latents of 6 x 10, sections of 3, two steps of Euler."""
    defaults = {"frame_shape": (48, 80), "schedule": "f1k1f16k4f2k2f1k1_g3", "steps": 2, "solver": "euler"}
    return wan(of, Options(**defaults | options), starts=starts, guidance=Guidance(guidance, "rain falls"))


def image(shape: tuple[int, int] = (48, 80), *, seed: int = 0) -> np.ndarray:
    """A picture (H, W, 3) with some structure."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (4, 4, 3), np.uint8)
    rows, columns = (np.linspace(0, 3, size).round().astype(int) for size in shape)
    return np.ascontiguousarray(coarse[rows][:, columns])
