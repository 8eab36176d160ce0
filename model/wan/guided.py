"""What Wan's family shares as FramePack's `Network`: text from UMT5, and guidance by a second pass for each step.

B rows, C x h x w one latent, L text tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..framepack.network import Row
from ..framepack.options import OptionsError
from ..framepack.step_cache import Rule
from ..framepack.wording import Mix
from ..packing.context import Context, join_contexts, pack_context, retarget
from ..packing.pack import KernelError, Packer, Piece
from ..packing.schedule import Grid, Kernel
from .text import TextEncoder

NEGATIVE = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall "
    "gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, "
    "poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three "
    "legs, many people in the background, walking backwards"
)  # what the models' own demos steer away from


@dataclass(frozen=True, slots=True)
class Guidance:
    """Without a classifier (arXiv 2207.12598): every step runs twice. A scale of 1 is none, at half the cost."""

    scale: float = 5.0
    negative: str = NEGATIVE
    is_projected: bool = False  # away from the projection onto the negative's velocity (CFG-Zero*, arXiv 2503.18886)


GUIDED = Guidance()


def check_cache(rule: Rule | None) -> None:
    """Raises OptionsError for a cache that was made for another model."""
    if rule is not None and rule.watches_input:
        raise OptionsError(f"expected cache=first-block: TeaCache's polynomial was fitted to FramePack's, got {rule}")


class Given(NamedTuple):
    """What each row is conditioned on."""

    text: Tensor  # (B, L, text width)
    against: Tensor | None  # (B, L, text width): what guidance leads away from, None without guidance


class GuidedNetwork:
    """A denoiser that is called with `timestep`, `context` and `text`, and the packer of its contexts.

    Hooks of an offloading kind belong to the `denoiser`; the `packer` is small.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        packer: Packer,
        texts: TextEncoder,
        *,
        kernels: Iterable[Kernel],
        guidance: Guidance,
        device: torch.device,
    ) -> None:
        """`kernels` are those that `packer` was made for."""
        self.denoiser, self.packer, self.device = denoiser, packer, device
        self._texts, self._guidance, self._kernels = texts, guidance, frozenset(kernels)
        # not the transformer's own: weights that are cast layer by layer are stored in another
        self._dtype = next(packer.parameters()).dtype

    @property
    def num_passes(self) -> int:
        return 2 if self._guidance.scale > 1 else 1

    def look(self, frame: np.ndarray) -> None:
        """The start is seen in the history only."""

    def condition(self, prompts: Mix, image: None) -> Given:  # noqa: ARG002 - see `look`
        text = sum(self._texts(prompt).float() * share for prompt, share in prompts)
        assert isinstance(text, Tensor), "a mix has at least one prompt"
        against = self._ready(self._texts(self._guidance.negative)) if self.num_passes > 1 else None
        return Given(self._ready(text), against)

    def pack(self, pieces: Sequence[Piece], *, target: Tensor) -> Context:
        """Slots that are said to have no frame are left out."""
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

    def retarget(self, context: Context, *, target: Tensor, grid: Grid) -> Context:
        """A context whose target is now one of latents of `grid` (h, w)."""
        return retarget(context, self.packer, target=target.to(self.device), grid=grid)

    def velocity(self, rows: Sequence[Row]) -> Tensor:
        noisy = torch.cat([row.noisy for row in rows])
        timestep = (torch.stack([row.sigma for row in rows]) * 1000).to(self.device)
        context = join_contexts([row.context for row in rows])
        text = torch.cat([row.given.text for row in rows])
        caches = tuple(zip(*(row.caches for row in rows), strict=True)) or ((),) * self.num_passes
        velocity: Tensor = self.denoiser(noisy, timestep=timestep, context=context, text=text, caches=caches[0])
        if rows[0].given.against is None:
            return velocity
        away = torch.cat([row.given.against for row in rows])
        unguided: Tensor = self.denoiser(noisy, timestep=timestep, context=context, text=away, caches=caches[1])
        if self._guidance.is_projected:
            unguided = unguided * _share(velocity, unguided)
        return unguided + self._guidance.scale * (velocity - unguided)

    def _ready(self, text: Tensor) -> Tensor:
        return text[None].to(self.device, self._dtype)


def _share(velocity: Tensor, unguided: Tensor) -> Tensor:
    """(B, 1, 1, 1, 1): how long the projection of each `velocity` onto `unguided` is, in units of that."""
    a, b = velocity.flatten(1), unguided.flatten(1)
    return ((a * b).sum(dim=1) / ((b**2).sum(dim=1) + 1e-8)).view(-1, 1, 1, 1, 1)
