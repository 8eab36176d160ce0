"""Chunks and back, and which latents of them Helios is shown where."""

import numpy as np
import pytest
import torch

from model.framepack.slots import SlotsError
from model.helios.chunks import ChunkSlots, from_chunk, to_chunk
from model.packing.schedule import Schedule
from model.world_model import History

SECTION = 3


def test_a_chunk_gives_its_latents_back():
    latents = torch.randn(2, SECTION, 4, 5, generator=torch.Generator().manual_seed(0)).half().float()
    assert to_chunk(latents).shape == (2, 12, 5)
    assert torch.equal(from_chunk(to_chunk(latents), section=SECTION), latents)


def history(*indices, count=3):
    """Of chunks whose latent j holds 10 index + j, oldest first."""
    chunks = [torch.arange(10.0 * i, 10.0 * i + SECTION).view(1, -1, 1, 1).expand(2, -1, 2, 2) for i in indices]
    missing = count - len(indices)
    recent = [np.zeros((2, 6, 2), np.float16)] * missing + [to_chunk(chunk) for chunk in chunks]
    return History(
        latents=np.stack([recent[-1] * 0 + 99, *recent]).astype(np.float16),
        indices=np.array([0] * (1 + missing) + list(indices)),
        poses=np.zeros((1 + count, 3), np.float32),
        valid=np.array([True] + [False] * missing + [True] * len(indices)),
    )


def shown(slots, *indices, first=None, before=None):
    pieces = slots.pieces(history(*indices), first=first, before=before)
    return [(piece.kernel, piece.latents[0, 0, :, 0, 0].tolist()) for piece in pieces]


def test_the_newest_latents_fill_the_slots():
    slots = ChunkSlots(Schedule.parse("td_f1k1f4k4f2k2f1k1_g3"))
    first, before = torch.full((2, 1, 2, 2), 7.0), torch.full((2, 1, 2, 2), 8.0)
    kernels = [(1, 2, 2), (4, 8, 8), (2, 4, 4), (1, 2, 2)]
    assert (slots.num_chunks, slots.target) == (3, (8, 9, 10))
    assert shown(slots, 0) == list(zip(kernels, [[0], [0] * 4, [0] * 2, [0]], strict=True))
    assert shown(slots, 0, first=first, before=before)[3] == ((1, 2, 2), [8])
    of_image = shown(slots, 0, 1, first=first, before=before)
    assert of_image == list(zip(kernels, [[7], [0, 0, 0, 8], [10, 11], [12]], strict=True))
    of_words = shown(slots, 0, 1, first=first)
    assert of_words == list(zip(kernels, [[7], [0] * 4, [10, 11], [12]], strict=True))
    old = shown(slots, 4, 5, 6, first=first, before=before)
    assert old == list(zip(kernels, [[7], [42, 50, 51, 52], [60, 61], [62]], strict=True))


def test_empty_slots_are_shown_as_zeros():
    pieces = ChunkSlots(Schedule.parse("td_f1k1f4k4f2k2f1k1_g3")).pieces(history(0), first=None, before=None)
    assert all(piece.valid is None or piece.valid.all() for piece in pieces)


def test_another_layout_is_refused():
    with pytest.raises(SlotsError):
        ChunkSlots(Schedule.parse("td_f16k4f2k2f1k1_g9"))
