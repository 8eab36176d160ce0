"""HunyuanVideo-FramePack in miniature, of random weights."""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLHunyuanVideo, HunyuanVideoFramepackTransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from model.hunyuan.conditions import TEMPLATE

WORDS = "a cat walks through the garden camera pans moves to right left forward backward . slowly rain falls"
TRANSFORMER = {
    "in_channels": 16,
    "out_channels": 16,
    "num_attention_heads": 2,
    "attention_head_dim": 10,
    "num_layers": 1,
    "num_single_layers": 1,
    "num_refiner_layers": 1,
    "patch_size": 2,
    "patch_size_t": 1,
    "guidance_embeds": True,
    "text_embed_dim": 16,
    "pooled_projection_dim": 8,
    "rope_axes_dim": (2, 4, 4),
    "image_condition_type": None,
    "has_image_proj": True,
    "image_proj_dim": 16,
    "has_clean_x_embedder": True,
}
VAE = {
    "latent_channels": 16,
    "block_out_channels": (4, 4, 4, 4),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "scaling_factor": 0.476986,
}


@dataclass(frozen=True)
class Parts:
    """The modules of a checkpoint, as diffusers' pipeline takes them."""

    transformer: HunyuanVideoFramepackTransformer3DModel
    vae: AutoencoderKLHunyuanVideo
    text_encoder: LlamaModel
    tokenizer: PreTrainedTokenizerFast
    text_encoder_2: CLIPTextModel
    tokenizer_2: PreTrainedTokenizerFast
    image_encoder: SiglipVisionModel
    feature_extractor: SiglipImageProcessorPil


def tokenizer() -> PreTrainedTokenizerFast:
    split = pre_tokenizers.Whitespace()
    words = [word for text in (TEMPLATE, WORDS) for word, _ in split.pre_tokenize_str(text)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(["<pad>", "<unk>", "<s>", "</s>", *words]))}
    tokens = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokens.pre_tokenizer = split
    tokens.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def parts(*, seed: int = 0, **changes: object) -> Parts:
    """Random weights; `changes` are to the transformer's configuration."""
    torch.manual_seed(seed)
    text, sizes = tokenizer(), {"intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 256, "bos_token_id": 2}
    llama = LlamaConfig(hidden_size=16, num_hidden_layers=3, num_key_value_heads=2, **sizes)
    clip = CLIPTextConfig(hidden_size=8, num_hidden_layers=1, eos_token_id=text.eos_token_id, **sizes)
    siglip = SiglipVisionConfig(
        hidden_size=16, num_hidden_layers=1, intermediate_size=24, num_attention_heads=2, image_size=32, patch_size=16
    )
    return Parts(
        transformer=HunyuanVideoFramepackTransformer3DModel(**TRANSFORMER | changes).eval(),
        vae=AutoencoderKLHunyuanVideo(**VAE).eval(),
        text_encoder=LlamaModel(llama).eval(),
        tokenizer=text,
        text_encoder_2=CLIPTextModel(clip).eval(),
        tokenizer_2=text,
        image_encoder=SiglipVisionModel(siglip).eval(),
        feature_extractor=SiglipImageProcessorPil(size={"height": 32, "width": 32}),
    )
