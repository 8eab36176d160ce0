"""Contexts: the order of their tokens, and phases that go on into the target."""

import torch
from torch import nn

from model.packing.context import join_contexts, pack_context, retarget
from model.packing.pack import Packer, Piece
from model.packing.rope import Rope, phases

ROPE = Rope((4, 6, 6))
TARGET = torch.arange(20, 22)[None]


def packer():
    torch.manual_seed(0)
    return Packer(nn.Conv3d(3, 8, (1, 2, 2), (1, 2, 2)), kernels=[(1, 2, 2), (2, 4, 4)], rope=ROPE)


def piece(kernel, indices, *, valid=None, seed=0):
    latents = torch.randn(1, 3, len(indices), 4, 4, generator=torch.Generator().manual_seed(seed))
    is_valid = None if valid is None else torch.tensor([valid])
    return Piece(latents, torch.tensor([indices]), kernel, is_valid)


def test_coarse_pieces_come_first_and_the_target_last():
    mine = packer()
    fine, coarse = piece((1, 2, 2), [19]), piece((2, 4, 4), [17, 18], seed=1)
    context = pack_context(mine, [fine, coarse], target=TARGET, grid=(4, 4))
    assert torch.equal(context.tokens, mine([coarse, fine]).tokens)
    assert torch.equal(context.rotation.cos[:, :5], mine([coarse, fine]).rotation.cos)
    assert torch.equal(context.rotation.sin[:, 5:], phases(ROPE, TARGET, grid=(2, 2)).sin)


def test_tokens_of_nothing_are_left_out():
    mine = packer()
    missing, whole = piece((2, 4, 4), [15, 16], valid=[False, False]), piece((1, 2, 2), [19], valid=[True])
    context = pack_context(mine, [whole, missing], target=TARGET, grid=(4, 4))
    alone = pack_context(mine, [piece((1, 2, 2), [19])], target=TARGET, grid=(4, 4))
    assert torch.equal(context.tokens, alone.tokens)
    assert torch.equal(context.rotation.cos, alone.rotation.cos)


def test_rows_join_with_indices_of_their_own():
    mine = packer()
    rows = [pack_context(mine, [piece((1, 2, 2), [i])], target=TARGET + i, grid=(4, 4)) for i in range(2)]
    joined = join_contexts(rows)
    assert joined.tokens.shape == (2, 4, 8)
    for i, row in enumerate(rows):
        assert torch.equal(joined.tokens[i : i + 1], row.tokens)
        assert torch.equal(joined.rotation.cos[i : i + 1], row.rotation.cos)
    nothing = pack_context(mine, [], target=TARGET, grid=(4, 4))
    assert nothing.tokens.shape == (1, 0, 8)
    assert torch.equal(nothing.rotation.cos, phases(ROPE, TARGET, grid=(2, 2)).cos)


def test_the_same_history_stands_before_a_target_of_another_size():
    mine, pieces = packer(), [piece((1, 2, 2), [19])]
    large = pack_context(mine, pieces, target=TARGET, grid=(4, 4))
    small = retarget(large, mine, target=TARGET, grid=(2, 2))
    assert small.layout == (4, 4 + 2)
    assert small.tokens is large.tokens
    assert torch.equal(small.rotation.cos[:, :4], large.rotation.cos[:, :4])
    assert torch.equal(small.rotation.sin[:, 4:], phases(ROPE, TARGET, grid=(1, 1)).sin)
