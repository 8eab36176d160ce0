"""`framepack-f1` and `framepack-i2v`: the released FramePack weights of HunyuanVideo, put together from ready modules.

B rows, C x h x w one latent, S latents of a section, k image tokens.
"""

from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
from diffusers.models.transformers.transformer_hunyuan_video_framepack import HunyuanVideoFramepackTransformer3DModel
from torch import Tensor

from ..framepack.camera import Camera, load_camera
from ..framepack.network import Row
from ..framepack.options import Options, Weights, kernels_of
from ..framepack.pictures import LatentFormat, Pictures
from ..framepack.wording import Mix
from ..framepack.world import FramePack
from ..packing.pack import KernelError, Piece
from ..packing.schedule import Kernel
from .conditions import ImageEncoder, TextEncoder, mixed
from .network import Context, Denoiser, Given, join_contexts, join_given, pack, packer_of

GUIDANCE = 10.0  # of the distilled kind: an input of the network, at no cost

F1 = Weights("framepack-f1", MappingProxyType({"vanilla": "td_f1k1f16k4f2k2f1k1_g9"}))
I2V = Weights(
    "framepack-i2v",
    MappingProxyType(
        {
            "inverted": "f1k1_x_g9_f1k1f2k2f16k4_td",  # what it was trained for; it may be asked for the others
            "vanilla": "td_f1k1f16k4f2k2f1k1_g9",
            "endpoint": "td_f1k1f16k4f2k2f1k1_g9_x_f1k1",
            "planned": "td_f1k1f16k4f2k2f1k1_g9_x_f1k1",
        }
    ),
)


class Parts(NamedTuple):
    """What a loader provides, all on `device` or brought there by hooks."""

    transformer: HunyuanVideoFramepackTransformer3DModel
    vae: AutoencoderKLHunyuanVideo
    texts: TextEncoder
    images: ImageEncoder
    device: torch.device


class HunyuanNetwork:
    """FramePack's `Network`. Hooks of an offloading kind belong to its `denoiser`; its `packer` is small."""

    num_passes = 1

    def __init__(
        self, parts: Parts, *, kernels: Iterable[Kernel], guidance: float = GUIDANCE, recomputes: bool = False
    ) -> None:
        self.device = parts.device
        self.denoiser = Denoiser(parts.transformer, recomputes=recomputes)
        self._kernels = frozenset(kernels)
        self.packer = packer_of(parts.transformer, kernels=self._kernels)
        self._texts, self._images, self._guidance = parts.texts, parts.images, guidance
        # not the transformer's own: weights that are cast layer by layer are stored in another
        self._dtype = parts.transformer.x_embedder.proj.weight.dtype

    def look(self, frame: np.ndarray) -> Tensor:
        """(1, k, image width)."""
        return self._images(frame)[None].to(self.device, self._dtype)

    def condition(self, prompts: Mix, image: Tensor) -> Given:
        text = mixed([(self._texts(prompt), share) for prompt, share in prompts])
        return Given(
            text=text.tokens[None].to(self.device, self._dtype),
            lengths=(text.length,),
            pooled=text.pooled[None].to(self.device, self._dtype),
            image=image,
            guidance=torch.tensor([self._guidance], dtype=self._dtype, device=self.device) * 1000.0,
        )

    def pack(self, pieces: Sequence[Piece], *, target: Tensor) -> Context:
        """Slots without a frame stay zero and are attended to, as in training."""
        if unknown := {piece.kernel for piece in pieces} - self._kernels:
            raise KernelError(f"expected kernels of {sorted(self._kernels)}, got {sorted(unknown)}")
        there = [
            Piece(piece.latents.to(self.device, self._dtype), piece.indices.to(self.device), piece.kernel)
            for piece in pieces
        ]
        return pack(self.packer, there, target=target.to(self.device))

    def velocity(self, rows: Sequence[Row]) -> Tensor:
        return self.denoiser(  # type: ignore[no-any-return]
            torch.cat([row.noisy for row in rows]),
            timestep=(torch.stack([row.sigma for row in rows]) * 1000).to(self.device),
            context=join_contexts([row.context for row in rows]),
            given=join_given([row.given for row in rows]),
            caches=[cache for row in rows for cache in row.caches],
        )


def framepack(
    parts: Parts,
    weights: Weights,
    options: Options,
    *,
    camera: Camera | None = None,
    starts: Sequence[np.ndarray] = (),
    guidance: float = GUIDANCE,
) -> FramePack:
    """A model of `weights` F1 or I2V, to play or to make clips.

    `camera` are the shipped phrases by default; `starts` as `FramePack` takes them. Raises NotFramePackError,
    OptionsError, SlotsError or ScheduleError.
    """
    network = HunyuanNetwork(parts, kernels=kernels_of(weights, options), guidance=guidance)
    pictures = Pictures(parts.vae, latent_format(parts.vae), device=parts.device)
    return FramePack(network, pictures, weights, options=options, camera=camera or load_camera(), starts=starts)


def latent_format(vae: AutoencoderKLHunyuanVideo) -> LatentFormat:
    config: Any = vae.config
    return LatentFormat(
        channels=config.latent_channels,
        spatial_ratio=config.spatial_compression_ratio,
        temporal_ratio=config.temporal_compression_ratio,
        scale=config.scaling_factor,
    )
