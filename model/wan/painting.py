"""A first frame from words alone, by plain Wan: a film of one latent, without a history."""

from functools import lru_cache

import numpy as np
import torch

from ..framepack.network import Row
from ..framepack.pictures import Pictures, to_uint8
from ..packing.pack import Piece
from ..packing.schedule import BASE
from ..sampling import UniPC, sigmas_of
from .guided import GuidedNetwork

KEPT_PAINTINGS = 64  # frames of what was painted lately: a world that is revived begins with the same


class Painter:
    """Frames (H, W, 3) uint8 of prompts and seeds. It takes the steps of a section, of a tenth of its tokens."""

    def __init__(
        self, network: GuidedNetwork, pictures: Pictures, *, shape: tuple[int, int], steps: int, shift: float
    ) -> None:
        """`shape` is (H, W); `steps` and `shift` of the noise levels as for a section."""
        self._network, self._pictures = network, pictures
        ratio = pictures.form.spatial_ratio
        self._shape = (1, pictures.form.channels, 1, shape[0] // ratio, shape[1] // ratio)
        self._sigmas = sigmas_of(steps, shift=shift)
        self._painted = lru_cache(KEPT_PAINTINGS)(self._paint)

    def __call__(self, prompt: str, seed: int) -> np.ndarray:
        return self._painted(prompt, seed)

    @torch.inference_mode()
    def _paint(self, prompt: str, seed: int) -> np.ndarray:
        network, first = self._network, torch.zeros(1, 1, dtype=torch.int64)
        nothing = Piece(torch.zeros(self._shape), first, BASE, valid=torch.zeros(1, 1, dtype=torch.bool))
        context, given = network.pack([nothing], target=first), network.condition(((prompt, 1.0),), None)
        noisy = torch.randn(self._shape, generator=torch.Generator().manual_seed(seed)).to(network.device)
        solver = UniPC(self._sigmas)
        for sigma in self._sigmas[:-1]:
            noisy = solver.step(noisy, network.velocity([Row(noisy, sigma, context, given)]))
        frame: np.ndarray = to_uint8(self._pictures.decode(noisy[0]))[0]
        return frame
