"""The denoiser: diffusers' Wan blocks over contexts of our own packer, for a batch of sessions.

B rows, each a session at its own step, C x h x w one latent, S latents of the target, m context tokens, n target
tokens, L text tokens, N = m + n, D the model's width. A row's sequence is context, then target; text is attended to
apart. Context tokens are clean and so modulated at time 0, as Helios and Wan 2.2's image-to-video do it; without any
this is plain Wan, to the bit.
"""

from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor, nn

from ..framepack.recompute import call
from ..framepack.step_cache import Rows, StepCache, run_from_first
from ..packing.context import Context
from ..packing.pack import Packer
from ..packing.rope import Rope
from ..packing.schedule import Kernel

# Of Wan 2.1's text-to-video weights; what is not said is diffusers' default.
SHAPES = MappingProxyType(
    {
        "1.3b": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
        "14b": {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40},
    }
)


class NotTextToVideoError(ValueError):
    """A Wan transformer of another kind than text-to-video."""


class Denoiser(nn.Module):
    """The parts of diffusers' transformer in one forward pass of ours; they are shared with it, not copied.

    Blocks are in one list that is a direct child, as diffusers' group offloading wants them.
    """

    def __init__(self, transformer: WanTransformer3DModel, *, recomputes: bool = False) -> None:
        """With `recomputes` training keeps no activations of the blocks, and computes them twice."""
        super().__init__()
        config: Any = transformer.config
        if config.image_dim is not None or config.in_channels != config.out_channels:
            raise NotTextToVideoError(
                f"expected a text-to-video Wan, which starts from its history, got one with {config.in_channels} "
                f"input channels, {config.out_channels} output channels and image_dim {config.image_dim}"
            )
        self.config, self.recomputes = config, recomputes
        self.patch_embedding = transformer.patch_embedding
        self.condition_embedder = transformer.condition_embedder
        self.blocks = transformer.blocks
        self.norm_out = transformer.norm_out
        self.proj_out = transformer.proj_out
        self.scale_shift_table = transformer.scale_shift_table

    def forward(
        self, noisy: Tensor, *, timestep: Tensor, context: Context, text: Tensor, caches: Sequence[StepCache] = ()
    ) -> Tensor:
        """The velocity at `noisy` (B, C, S, h, w) and `timestep` (B,), which is 1000 sigma, given `text` (B, L, width).

        Like `noisy`, float32. With `caches`, one for each row, blocks are left out for the rows that change too little.
        """
        tokens = self.patch_embedding(noisy.to(text.dtype)).flatten(2).transpose(1, 2)
        time, modulation, words, _ = self.condition_embedder(timestep, text)
        modulation = self._modulations(modulation, context, text, num_target=tokens.shape[1])
        hidden = torch.cat([context.tokens, tokens], dim=1).contiguous()

        def run(blocks: Sequence[nn.Module], hidden: Tensor, rows: Rows) -> Tensor:
            rotation = tuple(part[rows].unsqueeze(2) for part in context.rotation)
            for block in blocks:
                hidden = call(block, hidden, words[rows], modulation[rows], rotation, recomputes=self.recomputes)
            return hidden

        hidden = run_from_first([*self.blocks], hidden, caches, run=run, num_target=tokens.shape[1])
        shift, scale = (self.scale_shift_table + time.unsqueeze(1)).chunk(2, dim=1)
        hidden = (self.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden)
        return unpatchify(self.proj_out(hidden), like=noisy, patch=self.config.patch_size).float()

    def _modulations(self, modulation: Tensor, context: Context, text: Tensor, *, num_target: int) -> Tensor:
        """(B, 6, D), or (B, N, 6, D) where context tokens have one of their own."""
        (b, m, _), modulation = context.tokens.shape, modulation.unflatten(1, (6, -1))
        if not m:
            return modulation
        clean = self.condition_embedder(modulation.new_zeros(1), text[:1, :1])[1].unflatten(1, (6, -1))
        return torch.cat(
            [clean[:, None].expand(b, m, -1, -1), modulation[:, None].expand(-1, num_target, -1, -1)], dim=1
        )


def packer_of(transformer: WanTransformer3DModel, *, kernels: Iterable[Kernel]) -> Packer:
    """Our packer with every kernel a tile of the checkpoint's own projection: the average of what it sees."""
    config: Any = transformer.config
    head = config.attention_head_dim
    side = 2 * (head // 6)
    rope = Rope((head - 2 * side, side, side), theta=10_000.0, is_double=True)
    return Packer(transformer.patch_embedding, kernels=kernels, rope=rope)


def unpatchify(tokens: Tensor, *, like: Tensor, patch: Kernel) -> Tensor:
    """(B, C, S, h, w) as `like` of tokens (B, n, t p q C), made of patches of (t, p, q)."""
    (b, _, s, h, w), (t, p, q) = like.shape, patch
    patches = tokens.reshape(b, s // t, h // p, w // q, t, p, q, -1)
    return patches.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(b, -1, s, h, w)
