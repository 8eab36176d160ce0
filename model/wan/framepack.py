"""`wan`: FramePack on Wan's text-to-video weights, put together from ready modules.

Without fine-tuning the history is shown to weights that never saw one; `rewander train lora --model wan` teaches them.
B rows, C x h x w one latent, L text tokens.
"""

from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor

from ..framepack.camera import Camera, load_camera
from ..framepack.network import Row
from ..framepack.options import Options, OptionsError, Weights
from ..framepack.pictures import LatentFormat, Pictures
from ..framepack.wording import Mix
from ..framepack.world import FramePack
from ..packing.context import Context, join_contexts, pack_context
from ..packing.pack import KernelError, Piece
from ..packing.schedule import Kernel, Schedule
from .network import Denoiser, packer_of
from .text import TextEncoder

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
    shift=3.0,  # Wan's at 480p
)
GUIDANCE = 5.0  # without a classifier: every step runs twice
NEGATIVE = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall "
    "gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, "
    "poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three "
    "legs, many people in the background, walking backwards"
)  # what Wan's own demo steers away from


class Parts(NamedTuple):
    """What a loader provides, all on `device` or brought there by hooks."""

    transformer: WanTransformer3DModel
    vae: AutoencoderKLWan
    texts: TextEncoder
    device: torch.device


class Given(NamedTuple):
    """What each row is conditioned on."""

    text: Tensor  # (B, L, text width)
    against: Tensor | None  # (B, L, text width): what guidance leads away from, None without guidance


class WanNetwork:
    """FramePack's `Network`. Hooks of an offloading kind belong to its `denoiser`; its `packer` is small."""

    def __init__(
        self,
        parts: Parts,
        *,
        kernels: Iterable[Kernel],
        guidance: float = GUIDANCE,
        negative: str = NEGATIVE,
        recomputes: bool = False,
    ) -> None:
        """`guidance` of 1 is none, at half the cost; `recomputes` as `Denoiser` takes it.

        Raises NotTextToVideoError.
        """
        self.device = parts.device
        self.denoiser = Denoiser(parts.transformer, recomputes=recomputes)
        self._kernels = frozenset(kernels)
        self.packer = packer_of(parts.transformer, kernels=self._kernels)
        self._texts, self._guidance, self._negative = parts.texts, guidance, negative
        # not the transformer's own: weights that are cast layer by layer are stored in another
        self._dtype = parts.transformer.patch_embedding.weight.dtype

    def look(self, frame: np.ndarray) -> None:
        """Wan sees its start in the history only."""

    def condition(self, prompts: Mix, image: None) -> Given:  # noqa: ARG002 - see `look`
        text = sum(self._texts(prompt).float() * share for prompt, share in prompts)
        assert isinstance(text, Tensor), "a mix has at least one prompt"
        against = self._ready(self._texts(self._negative)) if self._guidance > 1 else None
        return Given(self._ready(text), against)

    def pack(self, pieces: Sequence[Piece], *, target: Tensor) -> Context:
        """Slots without a frame are left out, so that nothing but a start is nearly plain Wan."""
        if unknown := {piece.kernel for piece in pieces} - self._kernels:
            raise KernelError(f"expected kernels of {sorted(self._kernels)}, got {sorted(unknown)}")
        _, _, _, rows, columns = pieces[0].latents.shape
        dtype = next(self.packer.parameters()).dtype  # float32 while it learns
        there = [
            Piece(
                piece.latents.to(self.device, dtype),
                piece.indices.to(self.device),
                piece.kernel,
                None if piece.valid is None else piece.valid.to(self.device),
            )
            for piece in pieces
        ]
        context = pack_context(self.packer, there, target=target.to(self.device), grid=(rows, columns))
        return context._replace(tokens=context.tokens.to(self._dtype))

    def velocity(self, rows: Sequence[Row]) -> Tensor:
        assert all(row.cache is None for row in rows), "`wan` refuses to be played with step caches"
        noisy = torch.cat([row.noisy for row in rows])
        timestep = (torch.stack([row.sigma for row in rows]) * 1000).to(self.device)
        context = join_contexts([row.context for row in rows])
        text = torch.cat([row.given.text for row in rows])
        velocity: Tensor = self.denoiser(noisy, timestep=timestep, context=context, text=text)
        if rows[0].given.against is None:
            return velocity
        away = torch.cat([row.given.against for row in rows])
        unguided: Tensor = self.denoiser(noisy, timestep=timestep, context=context, text=away)
        return unguided + self._guidance * (velocity - unguided)

    def _ready(self, text: Tensor) -> Tensor:
        return text[None].to(self.device, self._dtype)


def wan(
    parts: Parts,
    options: Options,
    *,
    camera: Camera | None = None,
    starts: Sequence[np.ndarray] = (),
    guidance: float = GUIDANCE,
    negative: str = NEGATIVE,
) -> FramePack:
    """A model to play; `camera` are the shipped phrases by default, `starts` as `FramePack` takes them.

    Raises NotTextToVideoError, OptionsError, SlotsError or ScheduleError.
    """
    if options.cache is not None:
        raise OptionsError(f"expected no step cache, which needs one pass for each step, got {options.cache}")
    network = WanNetwork(parts, kernels=kernels_of(options), guidance=guidance, negative=negative)
    pictures = Pictures(parts.vae, latent_format(parts.vae), device=parts.device)
    return FramePack(network, pictures, WAN, options=options, camera=camera or load_camera(), starts=starts)


def kernels_of(options: Options) -> set[Kernel]:
    """All that the orders need, and the operator's own schedule."""
    schedules = [Schedule.parse(name) for name in (*WAN.schedules.values(), options.schedule) if name]
    return {segment.kernel for schedule in schedules for segment in schedule.past + schedule.future}


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
