"""The denoiser: diffusers' Helios blocks over contexts of our own packer, for a batch of sessions.

B rows, each a session at its own step, C x h x w one latent, S latents of the target, m context tokens, n target
tokens, L text tokens, N = m + n, D the model's width. A row's sequence is context, then target.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.transformers.transformer_helios import HeliosTransformer3DModel
from torch import Tensor, nn

from ..framepack.step_cache import Rows, StepCache, run_from_first
from ..packing.context import Context
from ..packing.pack import Packer
from ..packing.rope import Rope
from ..packing.schedule import Kernel
from ..wan.network import unpatchify

KERNELS: frozenset[Kernel] = frozenset({(1, 2, 2), (2, 4, 4), (4, 8, 8)})


class NotHeliosError(ValueError):
    """A transformer without Helios' projections of the history."""


class Denoiser(nn.Module):
    """The parts of diffusers' transformer in one forward pass of ours; they are shared with it, not copied.

    Blocks are in one list that is a direct child, as diffusers' group offloading wants them.
    """

    def __init__(self, transformer: HeliosTransformer3DModel) -> None:
        super().__init__()
        self.config: Any = transformer.config
        self.patch_embedding = transformer.patch_embedding
        self.condition_embedder = transformer.condition_embedder
        self.blocks = transformer.blocks
        self.norm_out = transformer.norm_out
        self.proj_out = transformer.proj_out

    def forward(
        self, noisy: Tensor, *, timestep: Tensor, context: Context, text: Tensor, caches: Sequence[StepCache] = ()
    ) -> Tensor:
        """The velocity at `noisy` (B, C, S, h, w) and `timestep` (B,), which is 1000 sigma, given `text` (B, L, width).

        Like `noisy`, float32. With `caches`, one for each row, blocks are left out for the rows that change too little.
        """
        tokens = self.patch_embedding(noisy.to(text.dtype)).flatten(2).transpose(1, 2)
        counts = context.tokens.shape[1], tokens.shape[1]
        time, modulation, words = self.condition_embedder(timestep, text)
        past = timestep.new_zeros(1) if self.config.zero_history_timestep else timestep
        past_time, past_modulation, _ = self.condition_embedder(past, text, is_return_encoder_hidden_states=False)
        times = _spread(past_time, time, counts=counts)
        modulations = _spread(past_modulation, modulation, counts=counts).unflatten(2, (6, -1))
        hidden = torch.cat([context.tokens, tokens], dim=1).contiguous()
        rotation = torch.cat(tuple(context.rotation), dim=-1)

        def run(blocks: Sequence[nn.Module], hidden: Tensor, rows: Rows) -> Tensor:
            for block in blocks:
                hidden = block(hidden, words[rows], modulations[rows], rotation[rows], counts[1])
            return hidden

        hidden = run_from_first([*self.blocks], hidden, caches, run=run, num_target=counts[1])
        hidden = self.proj_out(self.norm_out(hidden, times, counts[1]))
        return unpatchify(hidden, like=noisy, patch=self.config.patch_size).float()


def _spread(context: Tensor, target: Tensor, *, counts: tuple[int, int]) -> Tensor:
    """(B, N, d): for every token what its kind has, `context` (1 or B, d) and `target` (B, d)."""
    parts = zip((context, target), counts, strict=True)
    return torch.cat([part.unsqueeze(1).expand(len(target), count, -1) for part, count in parts], dim=1)


def packer_of(transformer: HeliosTransformer3DModel) -> Packer:
    """Our packer with the checkpoint's own projections."""
    config: Any = transformer.config
    if not config.has_multi_term_memory_patch:
        raise NotHeliosError("expected a Helios transformer, got one without projections of the history")
    trained = (transformer.patch_short, transformer.patch_mid, transformer.patch_long)
    rope = Rope(tuple(config.rope_dim), theta=config.rope_theta)
    packer = Packer(transformer.patch_short, kernels=KERNELS, rope=rope)
    for name, own in packer.projections.items():
        [packer.projections[name]] = [projection for projection in trained if projection.kernel_size == own.kernel_size]
    return packer
