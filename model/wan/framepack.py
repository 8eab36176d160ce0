"""`wan`: FramePack on Wan's text-to-video weights, put together from ready modules.

Without fine-tuning the history is shown to weights that never saw one; `rewander train lora --model wan` teaches them.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from ..framepack.camera import Camera, load_camera
from ..framepack.options import Options, OptionsError, Weights
from ..framepack.pictures import LatentFormat, Pictures
from ..framepack.world import FramePack
from ..lora.files import fuse_lora
from ..packing.schedule import Kernel, Schedule
from .guided import GUIDED, Guidance, GuidedNetwork
from .network import SHAPES, Denoiser, packer_of
from .painting import Painter
from .text import TextEncoder

SHIFT = 3.0  # of the noise levels: Wan's at 480p
WAN = Weights(
    "wan",
    MappingProxyType(
        {
            "vanilla": "td_f1k1f16k4f2k2f1k1_g9",
            "endpoint": "td_f1k1f16k4f2k2f1k1_g9_x_f1k1",
            "planned": "td_f1k1f16k4f2k2f1k1_g9_x_f1k1",
        }
    ),
    frame_rate=16.0,
    shift=SHIFT,
)


class Parts(NamedTuple):
    """What a loader provides, all on `device` or brought there by hooks."""

    transformer: WanTransformer3DModel
    vae: AutoencoderKLWan
    texts: TextEncoder
    device: torch.device


def network_of(
    parts: Parts, *, kernels: Collection[Kernel], guidance: Guidance, recomputes: bool = False
) -> GuidedNetwork:
    """Wan's denoiser and our packer; `recomputes` as `Denoiser` takes it. Raises NotTextToVideoError."""
    denoiser = Denoiser(parts.transformer, recomputes=recomputes)
    packer = packer_of(parts.transformer, kernels=kernels)
    return GuidedNetwork(denoiser, packer, parts.texts, kernels=kernels, guidance=guidance, device=parts.device)


def wan(
    parts: Parts,
    options: Options,
    *,
    camera: Camera | None = None,
    starts: Sequence[np.ndarray] = (),
    guidance: Guidance = GUIDED,
    adapters: Path | None = None,
) -> FramePack:
    """A model to play; `camera` are the shipped phrases by default, `starts` as `FramePack` has them, else painted.

    `adapters` is a folder that `rewander train lora` made; they go into the weights of `parts`. Raises
    NotTextToVideoError, OptionsError, SlotsError, ScheduleError or LoraError.
    """
    if options.cache is not None:
        raise OptionsError(f"expected no step cache, which needs one pass for each step, got {options.cache}")
    network = network_of(parts, kernels=kernels_of(options), guidance=guidance)
    if adapters is not None:
        fuse_lora(adapters, network.denoiser, learned={"packer": network.packer})
    pictures = Pictures(parts.vae, latent_format(parts.vae), device=parts.device)
    starting = starts or Painter(network, pictures, shape=options.frame_shape, steps=options.steps, shift=SHIFT)
    camera = camera or load_camera()
    return FramePack(network, pictures, _weights_of(parts), options=options, camera=camera, starts=starting)


def kernels_of(options: Options) -> set[Kernel]:
    """All that the orders need, and the operator's own schedule."""
    schedules = [Schedule.parse(name) for name in (*WAN.schedules.values(), options.schedule) if name]
    return {segment.kernel for schedule in schedules for segment in schedule.past + schedule.future}


def _weights_of(parts: Parts) -> Weights:
    """By name: a world of the small model is none of the large one's."""
    config: Any = parts.transformer.config
    is_large = config.num_attention_heads == SHAPES["14b"]["num_attention_heads"]
    return replace(WAN, name="wan-14b") if is_large else WAN


def latent_format(vae: AutoencoderKLWan) -> LatentFormat:
    config: Any = vae.config
    mean, deviation = (torch.tensor(values).view(-1, 1, 1, 1) for values in (config.latents_mean, config.latents_std))
    return LatentFormat(
        channels=config.z_dim,
        spatial_ratio=config.scale_factor_spatial,
        temporal_ratio=config.scale_factor_temporal,
        scale=1.0 / deviation,
        shift=mean,
    )
