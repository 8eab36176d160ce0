"""The denoiser: diffusers' FramePack blocks over contexts of our own packer, for a batch of sessions.

B rows, each a session at its own step, C x h x w one latent, S latents of the target, m context tokens, n target
tokens, L text tokens, N = m + n, D the model's width, d one head's. The order of a row's sequence is context, target,
image, text, as in the released models.
"""

import copy
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from diffusers.models.transformers.transformer_hunyuan_video_framepack import HunyuanVideoFramepackTransformer3DModel
from torch import Tensor, nn

from ..framepack.recompute import call
from ..framepack.step_cache import StepCache, run_or_keep
from ..packing.context import pack_context
from ..packing.pack import Packer, Piece
from ..packing.rope import Rope, Rotation
from ..packing.schedule import Kernel


class NotFramePackError(ValueError):
    """A HunyuanVideo transformer without the parts that FramePack adds."""


class Given(NamedTuple):
    """What each row is conditioned on."""

    text: Tensor  # (B, L, text width), every row padded at its end
    lengths: tuple[int, ...]  # the text tokens of each row that count
    pooled: Tensor  # (B, pooled width)
    image: Tensor  # (B, image tokens, image width)
    guidance: Tensor  # (B,): the distilled guidance scale times 1000


class Context(NamedTuple):
    """The packed history of each row. All rows have one layout, since diffusers' blocks take one rotation for all."""

    tokens: Tensor  # (B, m, D)
    rotation: Rotation  # (N, d): the context's, then the target's
    layout: Hashable  # of the frames' indices and kernels


class Stream(NamedTuple):
    """What goes from block to block."""

    hidden: Tensor  # (B, N, D)
    words: Tensor  # (B, image tokens + longest text, D)
    time: Tensor  # (B, D)
    mask: Tensor | None  # (B, 1, 1, N + words) bool: False is not attended to; None if all is
    rotation: Rotation  # (N, d)

    def rows(self, rows: list[int]) -> "Stream":
        mask = None if self.mask is None else self.mask[rows]
        return Stream(self.hidden[rows], self.words[rows], self.time[rows], mask, self.rotation)


class Denoiser(nn.Module):
    """The parts of diffusers' transformer in one forward pass of ours; they are shared with it, not copied.

    Blocks are direct children, as diffusers' group offloading wants them.
    """

    def __init__(self, transformer: HunyuanVideoFramepackTransformer3DModel, *, recomputes: bool = False) -> None:
        """`recomputes` as `framepack.recompute.call` takes it."""
        super().__init__()
        if transformer.image_projection is None:
            raise NotFramePackError("expected a FramePack transformer, got one without a projection of the start image")
        self.config: Any = transformer.config
        self.recomputes = recomputes
        self.patchify = transformer.x_embedder
        self.embed_time = transformer.time_text_embed
        self.embed_text = transformer.context_embedder
        self.embed_image = transformer.image_projection
        self.transformer_blocks = transformer.transformer_blocks
        self.single_transformer_blocks = transformer.single_transformer_blocks
        self.norm_out = transformer.norm_out
        self.proj_out = transformer.proj_out
        # the released demos project in float32 whatever the blocks compute in; a loader decides by this weight
        self._is_output_precise = transformer.proj_out.weight.dtype == torch.float32
        self.modulate: nn.Module | None = None

    def keep_signal(self) -> None:
        """Copy what TeaCache looks into out of the first block, whose weights may be elsewhere until it computes."""
        self.modulate = copy.deepcopy(signal_of(self))

    def forward(
        self, noisy: Tensor, *, timestep: Tensor, context: Context, given: Given, caches: Sequence[StepCache] = ()
    ) -> Tensor:
        """The velocity at `noisy` (B, C, S, h, w) and `timestep` (B,), which is 1000 sigma: like `noisy`, float32.

        With `caches`, one for each row, blocks are left out for the rows that change too little.
        """
        tokens = self.patchify(noisy.to(context.tokens.dtype))
        time, _ = self.embed_time(timestep, given.pooled, given.guidance)
        words, mask = self._words(timestep, given, num_image=context.tokens.shape[1] + tokens.shape[1])
        stream = Stream(torch.cat([context.tokens, tokens], dim=1), words, time, mask, context.rotation)
        hidden = self._blocks(stream, caches, num_target=tokens.shape[1])
        hidden = self.norm_out(hidden, time)
        return self._unpatchify(self.proj_out(hidden.float() if self._is_output_precise else hidden), noisy).float()

    def _words(self, timestep: Tensor, given: Given, *, num_image: int) -> tuple[Tensor, Tensor | None]:
        """Image and text tokens of the longest row, and which of all tokens may be attended to."""
        device, lengths = given.text.device, torch.tensor(given.lengths)
        is_word = (torch.arange(given.text.shape[1]) < lengths[:, None]).to(device)
        refined = self.embed_text(given.text, timestep, is_word)
        picture = self.embed_image(given.image)
        longest = max(given.lengths)
        words = torch.cat([picture, refined[:, :longest]], dim=1)
        if min(given.lengths) == longest:
            return words, None
        always = torch.ones(len(lengths), num_image + picture.shape[1], dtype=torch.bool, device=device)
        return words, torch.cat([always, is_word[:, :longest]], dim=1)[:, None, None]

    def _blocks(self, stream: Stream, caches: Sequence[StepCache], *, num_target: int) -> Tensor:
        """The target's hidden tokens (B, n, D) after all blocks."""
        blocks = [*self.transformer_blocks, *self.single_transformer_blocks]
        if not caches:
            return _run(blocks, stream, recomputes=self.recomputes).hidden[:, -num_target:]
        if caches[0].rule.watches_input:
            signal = (self.modulate or signal_of(self))(stream.hidden, emb=stream.time)[0]
        else:
            before = stream.hidden
            stream = _run(blocks[:1], stream)
            signal, blocks = stream.hidden - before, blocks[1:]
        head = stream.hidden[:, -num_target:]
        return run_or_keep(
            caches, signal, head, run=lambda rows: _run(blocks, stream.rows(rows)).hidden[:, -num_target:]
        )

    def _unpatchify(self, tokens: Tensor, like: Tensor) -> Tensor:
        (b, _, s, h, w), t, p = like.shape, self.config.patch_size_t, self.config.patch_size
        patches = tokens.view(b, s // t, h // p, w // p, -1, t, p, p)
        return patches.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(b, -1, s, h, w)


def signal_of(transformer: Any) -> nn.Module:
    """What TeaCache looks into: the first block's modulation of its input."""
    norm: nn.Module = transformer.transformer_blocks[0].norm1
    return norm


def packer_of(transformer: HunyuanVideoFramepackTransformer3DModel, *, kernels: Iterable[Kernel]) -> Packer:
    """Our packer with the checkpoint's own projections; kernels that it lacks start as tiles of its smallest."""
    config: Any = transformer.config
    trained = transformer.clean_x_embedder
    if trained is None:
        raise NotFramePackError("expected a FramePack transformer, got one without projections of the history")
    packer = Packer(trained.proj, kernels=kernels, rope=Rope(tuple(config.rope_axes_dim), config.rope_theta))
    for projection in (trained.proj, trained.proj_2x, trained.proj_4x):
        for name, own in packer.projections.items():
            if own.kernel_size == projection.kernel_size:
                packer.projections[name] = projection
    return packer


def pack(packer: Packer, pieces: Sequence[Piece], *, target: Tensor) -> Context:
    """The context of rows of one layout, with a target at indices `target` (1, S); empty slots hold zeros."""
    rows, columns = pieces[0].latents.shape[-2:]
    tokens, rotation = pack_context(packer, pieces, target=target, grid=(rows, columns))
    layout = tuple((piece.kernel, tuple(piece.indices[0].tolist())) for piece in pieces), tuple(target[0].tolist())
    return Context(tokens, Rotation(rotation.cos[0], rotation.sin[0]), layout)


def join_contexts(contexts: Sequence[Context]) -> Context:
    """Rows of one layout."""
    return contexts[0]._replace(tokens=torch.cat([context.tokens for context in contexts]))


def join_given(rows: Sequence[Given]) -> Given:
    text, lengths, pooled, image, guidance = zip(*rows, strict=True)
    return Given(
        torch.cat(text),
        tuple(length for row in lengths for length in row),
        torch.cat(pooled),
        torch.cat(image),
        torch.cat(guidance),
    )


def _run(blocks: Sequence[nn.Module], stream: Stream, *, recomputes: bool = False) -> Stream:
    hidden, words = stream.hidden, stream.words
    for block in blocks:
        inputs = (hidden, words, stream.time, stream.mask, stream.rotation)
        hidden, words = call(block, *inputs, recomputes=recomputes)
    return stream._replace(hidden=hidden, words=words)
