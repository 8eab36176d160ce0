"""The denoiser against diffusers' transformer on the same weights, to the bit."""

import pytest
import torch

from model.helios.network import Denoiser, NotHeliosError, packer_of
from model.packing.context import join_contexts, pack_context
from model.packing.pack import Piece
from tests.model.wan.tiny import coarse

from . import tiny

SPANS = {"long": ([*range(1, 17)], (4, 8, 8)), "mid": ([17, 18], (2, 4, 4)), "short": ([0, 19], (1, 2, 2))}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def both(transformer, *, grid=(6, 10), rows=1, frames=9):
    """Our velocity and theirs."""
    target, dtype = torch.arange(20, 20 + frames)[None], transformer.patch_embedding.weight.dtype
    noisy, text = noise(rows, 16, frames, *grid), noise(rows, 7, 16, seed=1).to(dtype)
    timestep = torch.linspace(950, 300, rows, dtype=torch.float64)
    spans = {name: span for name, (span, _) in SPANS.items()}
    past = {name: noise(rows, 16, len(spans[name]), *grid, seed=i).to(dtype) for i, name in enumerate(SPANS, start=2)}
    theirs = transformer(
        noisy.to(dtype),
        timestep=timestep,
        encoder_hidden_states=text,
        indices_hidden_states=target,
        **{f"latents_history_{name}": latents for name, latents in past.items()},
        **{f"indices_latents_history_{name}": torch.tensor([span]) for name, (span, _) in SPANS.items()},
    ).sample
    packer, contexts = packer_of(transformer), []
    for row in range(rows):
        latents = {name: past[name][row : row + 1] for name in SPANS}
        pieces = [Piece(latents[name], torch.tensor([span]), kernel) for name, (span, kernel) in SPANS.items()]
        contexts.append(pack_context(packer, pieces, target=target, grid=grid))
    ours = Denoiser(transformer)(noisy, timestep=timestep, context=join_contexts(contexts), text=text)
    return ours, theirs


@torch.no_grad()
@pytest.mark.parametrize("grid", [(8, 8), (6, 10), (10, 14)])
@pytest.mark.parametrize(
    "change",
    [{}, {"zero_history_timestep": False}, {"guidance_cross_attn": False}, {"is_amplify_history": True}],
    ids=str,
)
def test_the_velocity_equals_diffusers_to_the_bit(grid, change):
    ours, theirs = both(tiny.transformer(**change), grid=grid)
    assert torch.equal(ours, theirs)
    assert theirs.abs().mean() > 0.1


@torch.no_grad()
def test_a_coarse_helios_is_as_coarse_as_diffusers():
    ours, theirs = both(coarse(tiny.transformer()))
    assert (ours.dtype, theirs.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(ours, theirs.float())


@torch.no_grad()
def test_rows_at_different_times_equal_diffusers():
    ours, theirs = both(tiny.transformer(), rows=2, frames=3)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)
    assert (theirs[0] - theirs[1]).abs().max() > 0.1


def test_the_packer_shares_the_trained_projections():
    transformer = tiny.transformer()
    packer = packer_of(transformer)
    assert packer.projections["k4h8w8"] is transformer.patch_long
    assert packer.projections["k2h4w4"] is transformer.patch_mid
    assert packer.projections["k1h2w2"] is transformer.patch_short


def test_other_transformers_are_refused():
    with pytest.raises(NotHeliosError, match="without projections"):
        packer_of(tiny.transformer(has_multi_term_memory_patch=False))


def test_the_published_shape_fits():
    with torch.device("meta"):
        transformer = tiny.HeliosTransformer3DModel()
        denoiser, packer = Denoiser(transformer), packer_of(transformer)
    assert sum(p.numel() for p in [*denoiser.parameters(), *packer.parameters()]) == sum(
        p.numel() for p in transformer.parameters()
    )
    assert packer.rope.dims == (44, 42, 42)
