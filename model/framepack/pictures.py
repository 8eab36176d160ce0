"""Frames to latents and back with a causal video VAE: start images, and sections that join the ones before.

C x h x w one latent, S latents of a section, r frames per latent; the first latent of any decoding is one frame.
"""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..drift.soft_append import num_frames, soft_append


@dataclass(frozen=True, slots=True, eq=False)
class LatentFormat:
    """What a VAE's latents are, and how the transformer wants them: (latent - shift) * scale."""

    channels: int
    spatial_ratio: int
    temporal_ratio: int
    scale: Tensor | float  # a number, or (C, 1, 1, 1)
    shift: Tensor | float = 0.0


@dataclass(slots=True)
class Reel:
    """What the next section of a session is joined to."""

    latents: Tensor  # (C, t, h, w) float32: the newest section, or the start before there is one
    last: Tensor | None = None  # (3, H, W): the frame shown last, None before the first


class Pictures:
    """A VAE of diffusers' on a device. Latents outside are as the transformer wants them, frames are RGB uint8.

    Two threads may use it: they take turns. A `Reel` belongs to one of them.
    """

    def __init__(self, vae: nn.Module, form: LatentFormat, *, device: torch.device | str = "cpu") -> None:
        self._vae: Any = vae
        self.form, self._device = form, device
        self._turn = threading.Lock()  # Wan's VAE keeps what its convolutions saw last in itself

    @torch.inference_mode()
    def encode(self, frames: np.ndarray) -> Tensor:
        """Latents (n, C, h, w) float32 of frames (n, H, W, 3) that stand alone: the likeliest, so always the same."""
        return torch.cat([self.encode_video(frame[None]) for frame in frames])

    @torch.inference_mode()
    def encode_video(self, frames: np.ndarray) -> Tensor:
        """Latents (1 + (n - 1) / r, C, h, w) float32 of consecutive frames (n, H, W, 3), the first alone."""
        video = torch.tensor(frames).permute(3, 0, 1, 2).float().div(255).mul(2).sub(1)
        with self._turn:
            latents = self._vae.encode(video[None].to(self._device, self._vae.dtype)).latent_dist.mode()
        normal: Tensor = (latents[0].float() - self._own(self.form.shift)) * self._own(self.form.scale)
        return normal.transpose(0, 1)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Frames (r (t - 1) + 1, 3, H, W) float32 in [-1, 1], or nearly, of consecutive latents (C, t, h, w)."""
        own = latents.to(self._device) / self._own(self.form.scale) + self._own(self.form.shift)
        with self._turn:
            frames: Tensor = self._vae.decode(own[None].to(self._vae.dtype), return_dict=False)[0]
        return frames[0].transpose(0, 1).float()

    def extend(self, reel: Reel, latents: Tensor) -> Tensor:
        """The frames (r S, 3, H, W) of a new section (C, S, h, w), decoded behind the one before it; moves `reel` on.

        FramePack fades over frames that both decodings have. Live, those were shown: what the new decoding makes of
        the last of them is off by a little, and that difference fades out over the new frames instead.
        """
        ratio = self.form.temporal_ratio
        new = latents.shape[1] * ratio
        frames = self.decode(torch.cat([reel.latents, latents], dim=1))
        before, frames = frames[-new - 1], frames[-new:]
        if reel.last is not None:
            overlap = num_frames(latents.shape[1], ratio=ratio)
            frames = soft_append(frames[:overlap] + (reel.last - before), frames, overlap=overlap)
        reel.latents, reel.last = latents, frames[-1]
        return frames

    def rewind(self, latents: Tensor, *, section: int) -> Reel:
        """A reel behind `latents` (C, t, h, w), which end with a whole section: two sections, or one and the start."""
        return Reel(latents[:, -section:], self.decode(latents[:, -2 * section :])[-1])

    def _own(self, value: Tensor | float) -> Tensor | float:
        return value.to(self._device) if isinstance(value, Tensor) else value


def to_uint8(frames: Tensor) -> np.ndarray:
    """(n, H, W, 3) of frames (n, 3, H, W) in [-1, 1]."""
    pixels = frames.add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    return np.ascontiguousarray(pixels.cpu().numpy())
