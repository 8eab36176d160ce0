"""HunyuanVideo-FramePack in miniature, of random weights, and diffusers' own pipeline over the same modules."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoFramepackPipeline,
    HunyuanVideoFramepackTransformer3DModel,
)
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

from model.framepack.options import Options, Weights
from model.framepack.world import FramePack
from model.hunyuan.conditions import TEMPLATE, ImageEncoder, Reader, TextEncoder
from model.hunyuan.framepack import F1, framepack
from model.hunyuan.framepack import Parts as HunyuanParts

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


def framepack_of(
    of: Parts, *, weights: Weights = F1, guidance: float = 10.0, starts: Sequence[np.ndarray] = (), **options: object
) -> FramePack:
    """Small and odd: latents of 6 x 10, sections of 3, two steps of Euler."""
    defaults = {"frame_shape": (48, 80), "schedule": "f1k1f16k4f2k2f1k1_g3", "steps": 2, "solver": "euler"}
    return framepack(loaded(of), weights, Options(**defaults | options), starts=starts, guidance=guidance)


def loaded(of: Parts) -> HunyuanParts:
    """As a loader would hand them over."""
    texts = TextEncoder(Reader(of.text_encoder, of.tokenizer), Reader(of.text_encoder_2, of.tokenizer_2))
    images = ImageEncoder(of.image_encoder, of.feature_extractor)
    return HunyuanParts(of.transformer, of.vae, texts, images, torch.device("cpu"))


class Oracle(HunyuanVideoFramepackPipeline):
    """diffusers' pipeline with noise and start given, so that both sides have the same."""

    def prepare_latents(self, *args, **kwargs):  # noqa: ARG002 - the noise is given
        return next(self.noises)

    def prepare_image_latents(self, image, *args, latents=None, **kwargs):  # noqa: ARG002 - no sampling
        alone = [self.vae.encode(one[None, :, None]).latent_dist.mode() for one in image]  # as sessions open
        mode = torch.cat(alone) * self.vae.config.scaling_factor
        return mode.half().float()  # as a session's history keeps it

    def encode_image(self, image, device=None, dtype=None):  # noqa: ARG002 - as the released demos have it
        # diffusers hands its processor floats, which are cut, not rounded, to bytes: some a level too dark
        frames = image.permute(0, 2, 3, 1).add(1).mul(127.5).round().byte().numpy()
        encode = ImageEncoder(self.image_encoder, self.feature_extractor)
        return torch.stack([encode(frame) for frame in frames])


def oracle(of: Parts, *, noises) -> Oracle:
    """`noises` (B, C, S, h, w), one for each section. Give it noise levels that are shifted already."""
    pipeline = Oracle(**of.__dict__, scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0))
    pipeline.noises = iter(noises)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def round_last(pipeline, step, timestep, found):  # noqa: ARG001 - diffusers' signature
    """A finished section as a session's history keeps it."""
    is_last = step == pipeline.num_timesteps - 1
    return {"latents": found["latents"].half().float() if is_last else found["latents"]}


def image(shape: tuple[int, int] = (48, 80), *, seed: int = 0) -> np.ndarray:
    """A picture (H, W, 3) with some structure."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (4, 4, 3), np.uint8)
    rows, columns = (np.linspace(0, 3, size).round().astype(int) for size in shape)
    return np.ascontiguousarray(coarse[rows][:, columns])
