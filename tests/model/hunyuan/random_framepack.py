"""FramePack with random weights of any size, made where they are used, in our hands and in diffusers' pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoFramepackPipeline,
    HunyuanVideoFramepackTransformer3DModel,
)
from PIL import Image
from torch import nn

from model.checkpoints.fill import outline, slots_of
from model.checkpoints.framepack import RELEASED
from model.framepack.options import Options
from model.framepack.world import FramePack, FramePackJob
from model.hunyuan.conditions import MAX_TOKENS, Text
from model.hunyuan.framepack import F1, GUIDANCE, Parts, framepack
from model.placement.anatomy import IMAGE_TOKENS
from model.world_model import History
from tests.model.hunyuan import tiny

HOST = torch.device("cpu")


@dataclass(frozen=True)
class Size:
    """What is built."""

    frame_shape: tuple[int, int] = (480, 832)
    section: int = 9
    transformer: Mapping[str, Any] = field(default_factory=lambda: dict(RELEASED))
    vae: Mapping[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.bfloat16  # of the transformer
    vae_dtype: torch.dtype = torch.float16

    @property
    def schedule(self) -> str:
        return f"f1k1f16k4f2k2f1k1_g{self.section}"


FULL = Size()
SMALL = Size((48, 80), 3, tiny.TRANSFORMER, tiny.VAE, torch.float32, torch.float32)


def random_module(module: nn.Module, *, device: torch.device, dtype: torch.dtype, made: torch.device) -> Any:
    """Fill an outlined module on `device` with weights drawn on `made`, so that activations stay small."""
    generator = torch.Generator(made).manual_seed(0)
    for name, places in slots_of(module).places.items():
        shape = getattr(*places[0]).shape
        if "norm" in name and len(shape) == 1:
            weight = torch.ones(shape, device=made)
        else:
            weight = torch.randn(shape, device=made, generator=generator, dtype=dtype) * 0.02
        for owner, key in places:
            setattr(owner, key, nn.Parameter(weight.to(device, dtype), requires_grad=False))
    return module.eval()


def random_modules(size: Size, *, device: torch.device, made: torch.device) -> dict[str, Any]:
    """`transformer` and `vae`; encoders are left out, what they say is random too."""
    dtypes = {"transformer": size.dtype, "vae": size.vae_dtype}
    empty = outlines(size)
    return {name: random_module(empty[name], device=device, dtype=dtypes[name], made=made) for name in empty}


def outlines(size: Size) -> dict[str, nn.Module]:
    return {
        "transformer": outline(lambda: HunyuanVideoFramepackTransformer3DModel(**size.transformer)),
        "vae": outline(lambda: AutoencoderKLHunyuanVideo(**size.vae)),
    }


class Words:
    """Stands for the text encoders: a random prompt of full length."""

    def __init__(self, config: Any, *, device: torch.device, dtype: torch.dtype) -> None:
        random = torch.Generator(device).manual_seed(1)
        tokens = torch.randn(MAX_TOKENS, config.text_embed_dim, device=device, generator=random).to(dtype)
        pooled = torch.randn(config.pooled_projection_dim, device=device, generator=random).to(dtype)
        self.text = Text(tokens, MAX_TOKENS, pooled)

    def __call__(self, _prompt: str) -> Text:
        return self.text


class Look:
    """Stands for the image encoder."""

    def __init__(self, config: Any, *, device: torch.device, dtype: torch.dtype) -> None:
        random = torch.Generator(device).manual_seed(2)
        self.tokens = torch.randn(IMAGE_TOKENS, config.image_proj_dim, device=device, generator=random).to(dtype)

    def __call__(self, _frame: np.ndarray) -> torch.Tensor:
        return self.tokens


def world_of(size: Size, modules: Mapping[str, Any], *, device: torch.device, **options: Any) -> FramePack:
    """Our model over `modules`."""
    config = modules["transformer"].config
    words, look = (kind(config, device=device, dtype=size.dtype) for kind in (Words, Look))
    parts = Parts(modules["transformer"], modules["vae"], words, look, device)
    defaults = {"frame_shape": size.frame_shape, "schedule": size.schedule, "solver": "euler", "max_batch": 4}
    return framepack(parts, F1, Options(**defaults | options))


def first_jobs(model: FramePack, *, sessions: int) -> list[FramePackJob]:
    """Of the first sections of sessions, with nothing but the start in the history."""
    spec, image = model.spec, tiny.image(model.spec.frame_shape)
    states = [model.open(image=image, prompt="", seed=seed) for seed in range(sessions)]
    controls = np.zeros((spec.section_latents * spec.frames_per_latent, len(spec.controls.axes)), np.float32)
    histories = [_start_only(state.start.latents[0], slots=spec.num_recent) for state in states]
    return model.begin(states, [controls] * sessions, histories)


def _start_only(start: np.ndarray, *, slots: int) -> History:
    latents = np.zeros((1 + slots, *start.shape), np.float16)
    latents[0] = latents[-1] = start
    valid = np.array([True, *[False] * (slots - 1), True])
    return History(latents, np.zeros(1 + slots, np.int64), np.zeros((1 + slots, 3), np.float32), valid)


class Theirs(HunyuanVideoFramepackPipeline):
    """diffusers' own pipeline, with our random conditions, noise and start given to it."""

    def prepare_latents(self, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        return self.given.noise

    def prepare_image_latents(self, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        return self.given.start

    def encode_image(self, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        return self.given.look


def theirs_of(size: Size, model: FramePack, modules: Mapping[str, Any], *, device: torch.device) -> Theirs:
    """The pipeline for the first section of the session of seed 0."""
    pipeline = Theirs(
        **modules,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        image_encoder=None,
        feature_extractor=None,
    )
    state = model.open(image=tiny.image(size.frame_shape), prompt="", seed=0)
    start = torch.from_numpy(state.start.latents).float().transpose(0, 1)[None].to(device)
    noise = model._noise(0, 1).to(device)
    pipeline.given = SimpleNamespace(noise=noise, start=start, look=state.image)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def their_section(pipeline: Theirs, model: FramePack, size: Size) -> torch.Tensor:
    """Latents (1, C, S, h, w) of one section by their pipeline, its decoding left out."""
    text = Words(pipeline.transformer.config, device=pipeline.given.start.device, dtype=size.dtype).text
    rows, columns = size.frame_shape
    video = pipeline(
        image=Image.fromarray(tiny.image(size.frame_shape)),
        prompt_embeds=text.tokens[None],
        pooled_prompt_embeds=text.pooled[None],
        prompt_attention_mask=torch.ones(1, text.length, dtype=torch.bool, device=text.tokens.device),
        height=rows,
        width=columns,
        num_frames=4 * (size.section - 1) + 1,
        latent_window_size=size.section,
        num_inference_steps=model.spec.num_steps,
        sigmas=model._sigmas[:-1].tolist(),
        guidance_scale=GUIDANCE,
        sampling_type="vanilla",
        output_type="latent",
    ).frames
    return video[0][:, :, -size.section :].float()
