"""What latents look like, kept for a while: every frame is asked for as the newest, as recent and as recalled.

n latents of C x h x w, pictures of H x W pixels.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .depth import Depth
from .vae import VAE

CAPACITY = 512  # pictures, of all sessions


class Looks(NamedTuple):
    """What is decoded from latents, n of them or one."""

    images: Tensor  # (n, 3, H, W) uint8
    depths: Tensor  # (n, H/2, W/2): inverse, in 1/m


class LooksCache:
    """Decodes latents once, as long as no CAPACITY others are asked for since."""

    def __init__(self, vae: VAE, depth: Depth, dtype: torch.dtype, device: torch.device) -> None:
        self._vae, self._depth, self._dtype, self._device = vae, depth, dtype, device
        self._kept: dict[bytes, Looks] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, latents: Sequence[np.ndarray]) -> Looks:
        """What `latents`, n of (C, h, w), look like."""
        keys = [hashlib.blake2b(latent.tobytes(), digest_size=16).digest() for latent in latents]
        missing = {key: i for i, key in enumerate(keys) if key not in self._kept}
        found = {key: self._kept.pop(key) for key in keys if key in self._kept}
        if missing:
            found |= zip(missing, self._decode(np.stack([latents[i] for i in missing.values()])), strict=True)
        self._kept |= found
        while len(self._kept) > CAPACITY:
            del self._kept[next(iter(self._kept))]
        return Looks(*(torch.stack(part) for part in zip(*(found[key] for key in keys), strict=True)))

    def _decode(self, latents: np.ndarray) -> list[Looks]:
        stacked = torch.from_numpy(latents.astype(np.float32)).to(self._device, self._dtype)
        stacked = stacked.contiguous(memory_format=torch.channels_last)
        images = self._vae.decode(stacked).float().add(1).mul(127.5).round().clamp(0, 255).byte()
        return list(map(Looks, images, self._depth(stacked)))
