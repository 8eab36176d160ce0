"""Joining decoded sections: which latents to decode for each, and the cross-fade over the frames they share.

A causal video VAE makes `ratio` frames of a latent and a single frame of the first one, so a section decoded alone
starts differently from one decoded with its past. FramePack decodes two sections at a time and fades.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


class OverlapError(ValueError):
    """More frames are to overlap than there are."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """One decoding after a sampling: `latents` of the clip, whose frames overlap what is there by `overlap`."""

    latents: range
    overlap: int
    side: Literal["right", "left"]  # where the new frames go


def num_frames(latents: int, *, ratio: int = 4) -> int:
    """Frames that `latents` decode to."""
    return ratio * (latents - 1) + 1


def soft_append(history: Tensor, current: Tensor, *, overlap: int) -> Tensor:
    """Put `current` (t, ...) after `history` (t, ...), fading over the `overlap` frames that both have.

    Weights fall evenly from 1 to 0 on `history`, as released. Only the newest `overlap` frames of the history are
    read, so a caller with flat memory passes just these and keeps the newest of the result. For the inverted order
    the new frames are the first argument.
    """
    if not 0 <= overlap <= min(len(history), len(current)):
        raise OverlapError(f"expected an overlap of 0 to {min(len(history), len(current))} frames, got {overlap}")
    if overlap == 0:
        return torch.cat([history, current.to(history)])
    weights = torch.linspace(1, 0, overlap, dtype=history.dtype, device=history.device)
    weights = weights.view(-1, *(1,) * (history.ndim - 1))
    head, shared = history[:-overlap], history[-overlap:]
    current = current.to(history)
    return torch.cat([head, weights * shared + (1 - weights) * current[:overlap], current[overlap:]])


def decode_forward(sections: int, *, section: int = 9, ratio: int = 4, given: int = 1) -> Iterator[Decoding]:
    """Decodings of a clip made past to future, after `given` latents. All frames so far are num_frames(latents so far).

    The first decodes all there is; later ones the newest two sections.
    """
    for i in range(sections):
        end = given + (i + 1) * section
        if i == 0:
            yield Decoding(range(end), overlap=0, side="right")
        else:
            yield Decoding(range(end - 2 * section, end), overlap=num_frames(section, ratio=ratio), side="right")


def decode_inverted(sections: int, *, section: int = 9, ratio: int = 4, given: int = 1) -> Iterator[Decoding]:
    """Decodings of a clip made future to past; the last one also holds the `given` latents at its start."""
    for i in reversed(range(sections)):
        begin = given + i * section if i else 0
        end = given + min(i + 2, sections) * section
        overlap = num_frames(section, ratio=ratio) if i + 1 < sections else 0
        yield Decoding(range(begin, end), overlap=overlap, side="left")
