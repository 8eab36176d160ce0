"""`helios` put together from ready modules."""

from typing import NamedTuple

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_helios import HeliosTransformer3DModel

from ..framepack.camera import Camera, load_camera
from ..framepack.pictures import Pictures
from ..wan.framepack import latent_format
from ..wan.guided import GUIDED, Guidance, GuidedNetwork, check_cache
from ..wan.text import TextEncoder
from .course import Plan
from .network import KERNELS, Denoiser, packer_of
from .world import Helios, HeliosOptions


class Parts(NamedTuple):
    """What a loader provides, all on `device` or brought there by hooks."""

    transformer: HeliosTransformer3DModel
    vae: AutoencoderKLWan
    texts: TextEncoder
    device: torch.device


def helios(
    parts: Parts, plan: Plan, options: HeliosOptions, *, camera: Camera | None = None, guidance: Guidance = GUIDED
) -> Helios:
    """A model to play; `camera` are the shipped phrases by default.

    Raises NotHeliosError, OptionsError, SlotsError or ScheduleError.
    """
    check_cache(options.cache)
    packer, denoiser = packer_of(parts.transformer), Denoiser(parts.transformer)
    network = GuidedNetwork(denoiser, packer, parts.texts, kernels=KERNELS, guidance=guidance, device=parts.device)
    pictures = Pictures(parts.vae, latent_format(parts.vae), device=parts.device)
    return Helios(network, pictures, plan, options=options, camera=camera or load_camera())
