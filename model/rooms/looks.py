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

CAPACITY = 2048  # pictures, of all sessions


class Looks(NamedTuple):
    """What is decoded from latents, n of them or one."""

    images: Tensor  # (n, 3, H, W) uint8
    depths: Tensor  # (n, H/2, W/2): inverse, in 1/m


def unit(images: Tensor) -> Tensor:
    """Pixels of uint8 as float32 in [-1, 1]."""
    return images.float().div(127.5).sub(1)


class LooksCache:
    """Decodes latents once, as long as no `capacity` others are asked for since.

    Its memory is taken whole with the first picture, so that a session's growing age costs none.
    """

    def __init__(
        self, vae: VAE, depth: Depth, dtype: torch.dtype, device: torch.device, *, capacity: int = CAPACITY
    ) -> None:
        self._vae, self._depth, self._dtype, self._device = vae, depth, dtype, device
        self._capacity = capacity
        self._kept: Looks | None = None
        self._rows: dict[bytes, int] = {}  # of `_kept`, the one not asked for longest first

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, latents: Sequence[np.ndarray]) -> Looks:
        """What `latents`, n of (C, h, w), look like; no more than the capacity at a time."""
        assert len(latents) <= self._capacity, f"expected at most {self._capacity} latents, got {len(latents)}"
        keys = [hashlib.blake2b(latent.tobytes(), digest_size=16).digest() for latent in latents]
        missing = {key: latent for key, latent in zip(keys, latents, strict=True) if key not in self._rows}
        self._rows |= {key: self._rows.pop(key) for key in keys if key in self._rows}
        if missing:
            self._keep(list(missing), self._decode(np.stack(list(missing.values()))))
        assert self._kept is not None
        rows = torch.tensor([self._rows[key] for key in keys], device=self._device)
        return Looks(*(part[rows] for part in self._kept))

    def _keep(self, keys: Sequence[bytes], looks: Looks) -> None:
        if self._kept is None:
            self._kept = Looks(*(part.new_zeros(self._capacity, *part.shape[1:]) for part in looks))
        for key, *parts in zip(keys, *looks, strict=True):
            is_full = len(self._rows) == self._capacity
            self._rows[key] = row = self._rows.pop(next(iter(self._rows))) if is_full else len(self._rows)
            for kept, part in zip(self._kept, parts, strict=True):
                kept[row] = part

    def _decode(self, latents: np.ndarray) -> Looks:
        stacked = torch.from_numpy(latents.astype(np.float32)).to(self._device, self._dtype)
        stacked = stacked.contiguous(memory_format=torch.channels_last)
        images = self._vae.decode(stacked).float().add(1).mul(127.5).round().clamp(0, 255).byte()
        return Looks(images, self._depth(stacked))
