"""`wan`: FramePack on Wan's text-to-video weights, put together from ready modules.

Without fine-tuning the history is shown to weights that never saw one; `rewander train lora --model wan` teaches them.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from ..framepack.camera import Camera, load_camera
from ..framepack.options import Options, Weights, kernels_of
from ..framepack.pictures import LatentFormat, Pictures
from ..framepack.world import FramePack
from ..packing.schedule import Kernel
from .guided import GUIDED, Guidance, GuidedNetwork, check_cache
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
) -> FramePack:
    """A model to play; `camera` are the shipped phrases by default, `starts` as `FramePack` has them, else painted.

    Raises NotTextToVideoError, OptionsError, SlotsError or ScheduleError.
    """
    check_cache(options.cache)
    network = network_of(parts, kernels=kernels_of(WAN, options), guidance=guidance)
    pictures = Pictures(parts.vae, latent_format(parts.vae), device=parts.device)
    starting = starts or Painter(network, pictures, shape=options.frame_shape, steps=options.steps, shift=SHIFT)
    camera = camera or load_camera()
    return FramePack(network, pictures, _weights_of(parts), options=options, camera=camera, starts=starting)


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
