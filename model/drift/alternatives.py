"""The drift methods FramePack is compared with (arXiv 2504.12626 v3, Table 2), as options of the same plan and sampler.

b batch, c latent channels, t frames, h w latent pixels, n tokens.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..packing.pack import Piece
from .orders import EMPTY, Sampling, Tail, View


def repeat_image_to_video(sampling: Sampling) -> Sampling:
    """Repeated image-to-video: the newest latent is all that a sampling sees, as if it were a start image.

    It keeps its place next to the target; slots of the start and of the past before it are empty.
    """
    newest = max((view.sources[-1] for view in sampling.context if view.place.role == "recent"), default=EMPTY)
    views = [
        replace(view, sources=tuple(s if s == newest and view.place.role == "recent" else EMPTY for s in view.sources))
        for view in sampling.context
    ]
    return replace(sampling, context=tuple(views), tail=Tail())


def anchor_frames(sampling: Sampling, *, anchors: Sequence[int] = (0,)) -> Sampling:
    """Anchor frames (as StreamingT2V): the clip's latents `anchors` hold the oldest recent slots, whatever comes.

    They take these slots' positions in time. Anchors that the slots still show, or that are not yet made, move nothing.
    """
    recent = [view for view in sampling.context if view.place.role == "recent"]
    sources = [source for view in recent for source in view.sources]
    missing = [anchor for anchor in anchors if anchor not in sources and anchor < min(sampling.target)]
    kept = iter((*missing, *sources[len(missing) :]))
    anchored = {id(view): replace(view, sources=tuple(next(kept) for _ in view.sources)) for view in recent}
    return replace(sampling, context=tuple(anchored.get(id(view), view) for view in sampling.context))


def without_history(sampling: Sampling) -> Sampling:
    """The unconditional half of history guidance, of a forward plan: the start stays, the recent slots are empty."""

    def blank(view: View) -> View:
        return replace(view, sources=(EMPTY,) * len(view.sources)) if view.place.role == "recent" else view

    return replace(sampling, context=tuple(map(blank, sampling.context)), tail=Tail())


def guide(with_history: Tensor, without: Tensor, *, scale: float) -> Tensor:
    """History guidance (arXiv 2502.06764): from the prediction `without` history past the one `with_history`.

    Scale 1 is no guidance, 0 forgets the history. Both predictions are of the same kind (velocity or clean latent).
    """
    return without + scale * (with_history - without)


def noise_history(
    latents: Tensor, *, sigma: float | Tensor, generator: torch.Generator, valid: Tensor | None = None
) -> Tensor:
    """DiffusionForcing: history `latents` (b, c, t, h, w) at noise level `sigma` in [0, 1], one number or (b, t).

    On the model's own path, (1 - sigma) x + sigma noise; the paper tests 0, 0.1 and 0.5. Frames that `valid` (b, t)
    excludes stay as they are. The same generator state gives the same noise at every sigma.
    """
    level = torch.as_tensor(sigma, dtype=latents.dtype, device=latents.device)
    if level.ndim:
        level = level[:, None, :, None, None]
    noise = torch.randn(latents.shape, generator=generator, dtype=latents.dtype, device=latents.device)
    noised = (1 - level) * latents + level * noise
    return noised if valid is None else torch.where(valid[:, None, :, None, None], noised, latents)


def random_sigmas(batch: int, frames: int, *, generator: torch.Generator) -> Tensor:
    """A noise level per frame, (b, t) uniform in [0, 1): what DiffusionForcing trains with."""
    return torch.rand(batch, frames, generator=generator, device=generator.device)


def token_times(pieces: Sequence[Piece]) -> Tensor:
    """The index of the newest frame under each token that the packer makes of `pieces` without tails, (b, n)."""
    times = []
    for piece in pieces:
        (_, _, frames, height, width), (t, h, w) = piece.latents.shape, piece.kernel
        last = torch.arange(t - 1, frames + t - 1, t, device=piece.indices.device).clamp(max=frames - 1)
        times.append(piece.indices[:, last].repeat_interleave(-(-height // h) * -(-width // w), dim=1))
    return torch.cat(times, dim=1)


def causal_mask(times: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Causal attention (as CausVid): (b, n, n), true where a query (row) may attend to a key (column).

    A token attends to the tokens of its own time in `times` (b, n) and of earlier ones; give all frames of a section
    one time to be causal by section. `valid` (b, n) takes keys out for all but themselves, so that no row is empty.
    """
    mask = times[:, :, None] >= times[:, None, :]
    if valid is None:
        return mask
    itself = torch.eye(times.shape[1], dtype=torch.bool, device=times.device)
    return mask & valid[:, None, :] | itself
