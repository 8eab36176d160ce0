"""The denoiser against diffusers' transformer on the same weights: plain Wan to the bit when there is no history."""

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.hooks import FirstBlockCacheConfig

from model.framepack.step_cache import FirstBlockCache, StepCache
from model.packing.context import join_contexts, pack_context
from model.packing.pack import Piece
from model.wan.network import SHAPES, Denoiser, NotTextToVideoError, packer_of

from . import tiny

KERNELS = [(1, 2, 2), (2, 4, 4), (4, 8, 8)]


@pytest.fixture(scope="module")
def transformer():
    return tiny.transformer()


@pytest.fixture(scope="module")
def ours(transformer):
    return Denoiser(transformer), packer_of(transformer, kernels=KERNELS)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def empty(packer, *, frames, grid, rows):
    context = pack_context(packer, [], target=torch.arange(frames)[None], grid=grid)
    return join_contexts([context] * rows)


@torch.no_grad()
@pytest.mark.parametrize("grid", [(8, 8), (6, 10), (10, 14)])
@pytest.mark.parametrize("frames", [1, 9])
@pytest.mark.parametrize("rows", [1, 2])
def test_without_history_it_is_plain_wan_to_the_bit(transformer, ours, grid, frames, rows):
    denoiser, packer = ours
    noisy, text = noise(rows, 16, frames, *grid), noise(rows, 7, 16, seed=1)
    timestep = torch.linspace(950, 300, rows)
    theirs = transformer(noisy, timestep=timestep, encoder_hidden_states=text).sample
    context = empty(packer, frames=frames, grid=grid, rows=rows)
    assert torch.equal(denoiser(noisy, timestep=timestep, context=context, text=text), theirs)
    assert theirs.abs().mean() > 0.1


@torch.no_grad()
def test_skipped_steps_equal_diffusers_first_block_cache(ours):
    """The timesteps are close, so that some run and some do not."""
    denoiser, packer = ours
    steps = torch.tensor([900.0, 899.0, 898.0, 500.0, 499.0, 498.0])
    noisy, text = noise(1, 16, 3, 6, 10), noise(1, 7, 16, seed=1)
    context, cache = empty(packer, frames=3, grid=(6, 10), rows=1), StepCache(FirstBlockCache(0.025), steps=7)
    mine = [denoiser(noisy, timestep=t[None], context=context, text=text, caches=[cache]) for t in steps]
    transformer = tiny.transformer()
    transformer.enable_cache(FirstBlockCacheConfig(threshold=0.025))
    with transformer.cache_context("cond"):
        for t, velocity in zip(steps, mine, strict=True):
            theirs = transformer(noisy, timestep=t[None], encoder_hidden_states=text).sample
            torch.testing.assert_close(velocity, theirs, rtol=0, atol=2e-6)
    assert 0 < cache.num_skipped < len(steps) - 1


@torch.no_grad()
def test_a_coarse_wan_is_as_coarse_as_diffusers():
    coarse = tiny.coarse(tiny.transformer())
    noisy, text, timestep = noise(1, 16, 3, 6, 10), noise(1, 7, 16, seed=1).bfloat16(), torch.tensor([700.0])
    theirs = coarse(noisy.bfloat16(), timestep=timestep, encoder_hidden_states=text).sample
    context = empty(packer_of(coarse, kernels=KERNELS), frames=3, grid=(6, 10), rows=1)
    ours = Denoiser(coarse)(noisy, timestep=timestep, context=context, text=text)
    assert (ours.dtype, theirs.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(ours, theirs.float())


@torch.no_grad()
def test_whole_frames_of_history_are_clean_frames_of_a_longer_video(transformer, ours):
    denoiser, packer = ours
    past, noisy, text = noise(2, 16, 4, 6, 10, seed=2), noise(2, 16, 3, 6, 10), noise(2, 7, 16, seed=1)
    timestep, per_frame = torch.tensor([900.0, 400.0]), 3 * 5
    theirs = transformer(  # Wan 2.2's way to say that some frames are clean: a time for each token
        torch.cat([past, noisy], dim=2),
        timestep=torch.cat([torch.zeros(2, 4 * per_frame), timestep[:, None].expand(-1, 3 * per_frame)], dim=1),
        encoder_hidden_states=text,
    ).sample[:, :, 4:]
    rows = [[Piece(row[None], torch.arange(4)[None], (1, 2, 2))] for row in past]
    context = join_contexts([pack_context(packer, row, target=torch.arange(4, 7)[None], grid=(6, 10)) for row in rows])
    mine = denoiser(noisy, timestep=timestep, context=context, text=text)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-6)
    without = denoiser(noisy, timestep=timestep, context=empty(packer, frames=3, grid=(6, 10), rows=2), text=text)
    assert (mine - without).abs().max() > 0.01


def history(packer, *, seed, valid=None):
    """A context of all three kernels at FramePack's indices."""
    spans = {(1, 2, 2): [0, 19], (4, 8, 8): [*range(1, 17)], (2, 4, 4): [17, 18]}
    pieces = []
    for kernel, indices in spans.items():
        is_valid = None if valid is None else torch.tensor([[i in valid for i in indices]])
        latents = noise(1, 16, len(indices), 6, 10, seed=seed + kernel[0])
        pieces.append(Piece(latents, torch.tensor([indices]), kernel, is_valid))
    return pack_context(packer, pieces, target=torch.arange(20, 23)[None], grid=(6, 10))


@torch.no_grad()
def test_a_batch_equals_its_rows_alone(ours):
    denoiser, packer = ours
    contexts = [history(packer, seed=seed) for seed in (10, 20)]
    noisy, text, timestep = noise(2, 16, 3, 6, 10), noise(2, 7, 16, seed=1), torch.tensor([900.0, 400.0])
    together = denoiser(noisy, timestep=timestep, context=join_contexts(contexts), text=text)
    for i, context in enumerate(contexts):
        row = slice(i, i + 1)
        alone = denoiser(noisy[row], timestep=timestep[row], context=context, text=text[row])
        torch.testing.assert_close(together[row], alone, rtol=0, atol=2e-6)
    assert not torch.allclose(together[:1], together[1:], atol=0.1)


def test_slots_without_any_valid_frame_are_left_out(ours):
    _, packer = ours
    # 6 x 10 latents: 15 tokens of k1, 2 x 3 of k2, 1 x 2 of k4
    assert history(packer, seed=0).tokens.shape[1] == 2 * 15 + 6 + 4 * 2
    newest = history(packer, seed=0, valid={0, 14, 15, 16, 17, 18, 19})
    assert newest.tokens.shape[1] == 2 * 15 + 6 + 2
    assert newest.rotation.cos.shape == (1, 2 * 15 + 6 + 2 + 3 * 15, 16)
    nothing = history(packer, seed=0, valid=set())
    assert nothing.tokens.shape == (1, 0, 32)
    assert torch.equal(nothing.rotation.cos, history(packer, seed=0).rotation.cos[:, -45:])


def test_every_kernel_starts_as_the_average_of_what_it_sees(transformer, ours):
    _, packer = ours
    video = noise(1, 16, 4, 16, 16)
    for projection in packer.projections.values():
        pool = tuple(size // patch for size, patch in zip(projection.kernel_size, (1, 2, 2), strict=True))
        pooled = torch.nn.functional.avg_pool3d(video, pool)
        torch.testing.assert_close(projection(video), transformer.patch_embedding(pooled), rtol=0, atol=1e-5)


def test_recomputing_gives_the_same_gradients(transformer):
    noisy, text, timestep = noise(1, 16, 3, 6, 10), noise(1, 7, 16, seed=1), torch.tensor([700.0])
    gradients = []
    for recomputes in (False, True):
        denoiser, packer = Denoiser(transformer, recomputes=recomputes), packer_of(transformer, kernels=KERNELS)
        denoiser(noisy, timestep=timestep, context=history(packer, seed=3), text=text).square().mean().backward()
        gradients.append(packer.projections["k4h8w8"].weight.grad)
        transformer.zero_grad()
    assert torch.equal(*gradients)
    assert gradients[0].abs().max() > 0


@pytest.mark.parametrize(("size", "parameters"), [("1.3b", 1_418_996_800), ("14b", 14_288_491_584)])
def test_the_published_shapes_fit(size, parameters):
    with torch.device("meta"):
        transformer = WanTransformer3DModel(**SHAPES[size])
        denoiser, packer = Denoiser(transformer), packer_of(transformer, kernels=KERNELS)
    assert sum(p.numel() for p in denoiser.parameters()) == parameters
    width = transformer.config.num_attention_heads * 128
    added = sum(p.numel() for p in packer.parameters())
    assert added == sum(width * (16 * t * h * w + 1) for t, h, w in KERNELS)
    assert packer.rope.dims == (44, 42, 42)


@pytest.mark.parametrize("change", [{"in_channels": 36}, {"image_dim": 8, "added_kv_proj_dim": 32}], ids=str)
def test_image_to_video_weights_are_refused(change):
    with pytest.raises(NotTextToVideoError, match="text-to-video"):
        Denoiser(tiny.transformer(**change))
