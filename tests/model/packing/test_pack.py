"""The packer: its projections against pooling, its layout against diffusers' FramePack transformer."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from diffusers import HunyuanVideoFramepackTransformer3DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model.packing.pack import KernelError, Packer, Piece, cut, reduce_kernel, tile
from model.packing.rope import Rope, phases
from model.packing.schedule import Schedule

ROPE = Rope(dims=(4, 6, 6))
BASE = (1, 2, 2)
multiples = st.sampled_from([1, 2, 3, 4, 8])


def projection(base=BASE, *, channels=4, width=16):
    torch.manual_seed(0)
    return nn.Conv3d(channels, width, kernel_size=base, stride=base)


def packer_for(name, *, rope=ROPE, base=BASE):
    schedule = Schedule.parse(name, base=base)
    kernels = [segment.kernel for segment in schedule.past + schedule.future]
    return schedule, Packer(projection(base), kernels=kernels, rope=rope)


@settings(max_examples=25)
@given(st.sampled_from([(1, 2, 2), (1, 1, 1), (2, 2, 2)]), multiples, multiples, multiples, st.integers(0, 99))
def test_a_tiled_projection_is_the_base_of_the_pooled_input(base, t, h, w, seed):
    proj = projection(base)
    wide = tile(proj, kernel=(t * base[0], h * base[1], w * base[2]))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 4, t * base[0], 2 * h * base[1], w * base[2], generator=generator)
    assert torch.allclose(wide(x), proj(F.avg_pool3d(x, (t, h, w))), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", [(16, 32, 32), (32, 16, 16), (1, 64, 64)])
def test_kernels_beyond_the_largest_are_pooled_first(kernel):
    packer = Packer(projection(), kernels=[kernel], rope=ROPE)
    (largest,) = packer.projections.values()
    assert max(largest.kernel_size) == 16 or largest.kernel_size == (8, 16, 16)
    x = torch.randn(1, 4, kernel[0], *kernel[1:])
    packed = packer([Piece(x, torch.arange(kernel[0])[None], kernel)])
    pooled = F.avg_pool3d(x, (kernel[0], kernel[1] // 2, kernel[2] // 2))
    assert torch.allclose(packed.tokens[0, 0], projection()(pooled).flatten(), atol=1e-5)
    assert packed.rotation.cos.shape == (1, 1, 16)


def test_pooled_kernels_share_the_largest_projection():
    packer = Packer(projection(), kernels=[(8, 16, 16), (16, 32, 32)], rope=ROPE)
    assert list(packer.projections) == ["k8h16w16"]


@pytest.mark.parametrize("kernel", [(1, 3, 2), (1, 1, 1), (1, 2, 34)])
def test_kernels_that_no_patches_fill_are_refused(kernel):
    with pytest.raises(KernelError, match="expected a kernel made of"):
        reduce_kernel(kernel, base=BASE)


@settings(max_examples=25)
@given(
    st.sampled_from(["f1k1f4s2f1s1f16k4f2k2f1k1_g1", "td_f8k8f4k4f2k2f1k1_g9", "f5k4f3k2_g1", "f3k1h8w4_g2"]),
    st.integers(4, 20),
    st.integers(4, 20),
)
def test_tokens_are_as_many_as_the_schedule_says(name, h, w):
    schedule, packer = packer_for(name)
    frames = sum(s.frames for s in schedule.past)
    pieces = cut(schedule.past, torch.randn(2, 4, frames, h, w), indices=torch.arange(frames).expand(2, -1))
    packed = packer(pieces)
    count = schedule.context_tokens((h, w))
    assert packed.tokens.shape == (2, count, 16)
    assert packed.rotation.cos.shape == packed.rotation.sin.shape == (2, count, 16)
    assert packed.valid.shape == (2, count)
    assert packed.valid.all()


def test_recalled_frames_do_not_mix():
    _, packer = packer_for("f4s2_g1")
    x = torch.randn(1, 4, 4, 8, 8)
    indices = torch.tensor([[40, 3, 77, 5]])
    packed = packer([Piece(x, indices, (1, 4, 4))])
    for frame in range(4):
        alone = packer([Piece(x[:, :, frame : frame + 1], indices[:, frame : frame + 1], (1, 4, 4))])
        assert torch.allclose(packed.tokens[:, 4 * frame : 4 * frame + 4], alone.tokens, atol=1e-6)
        assert torch.equal(packed.rotation.cos[:, 4 * frame : 4 * frame + 4], alone.rotation.cos)


def test_invalid_frames_count_as_zeros_and_mask_their_tokens():
    schedule, packer = packer_for("f4k2f2k1_g1")
    x = torch.randn(2, 4, 6, 8, 8)
    indices = torch.arange(6).expand(2, -1)
    valid = torch.tensor([[False, False, False, True, False, True], [True] * 6])
    packed = packer(cut(schedule.past, x, indices=indices, valid=valid))
    # k2 makes 2 tokens in time of 4 in space, k1 makes 2 of 16
    assert packed.valid[0].tolist() == [False] * 4 + [True] * 4 + [False] * 16 + [True] * 16
    assert packed.valid[1].all()
    garbage = torch.where(valid[:, None, :, None, None], x, 1e6)
    assert torch.equal(packer(cut(schedule.past, garbage, indices=indices, valid=valid)).tokens, packed.tokens)


def test_an_appended_tail_keeps_a_token_per_frame():
    schedule, packer = packer_for("ta_f16k4f2k2f1k1_g9")
    x, indices = torch.randn(2, 4, 3, 60, 104), torch.tensor([[4, 5, 6], [7, 8, 9]])
    kernel = schedule.tail_segment.kernel
    packed = packer([Piece(x, indices, kernel, tail="ta")])
    assert packed.tokens.shape[1] == packed.rotation.cos.shape[1] == schedule.tail_tokens((60, 104), frames=3) == 3
    flat = x.mean(dim=(3, 4), keepdim=True).expand_as(x)
    smooth = packer([Piece(flat, indices, kernel, tail="ta")])
    frame = projection()(flat[:, :, 1:2, :2, :2]).flatten(1)
    assert torch.allclose(smooth.tokens[:, 1], frame, atol=1e-5)  # a flat frame survives all pooling


@pytest.mark.parametrize("frames", [1, 5])
def test_a_compressed_tail_is_one_token_of_the_mean(frames):
    schedule, packer = packer_for("tc_f16k4f2k2f1k1_g9", rope=Rope(dims=(4, 6, 6), pooling="angle"))
    x, indices = torch.randn(2, 4, frames, 12, 20), torch.arange(frames).expand(2, -1)
    packed = packer([Piece(x, indices, schedule.tail_segment.kernel, tail="tc")])
    mean = x.mean(dim=(2, 3, 4), keepdim=True).expand(-1, -1, 1, 2, 2)
    assert packed.tokens.shape[1] == schedule.tail_tokens((12, 20), frames=frames) == 1
    assert torch.allclose(packed.tokens[:, 0], projection()(mean).flatten(1), atol=1e-5)
    assert packed.rotation.cos.shape == (2, 1, 16)
    middle = phases(packer.rope, torch.full((2, 1), (frames - 1) / 2), grid=(1, 1))
    assert torch.allclose(packed.rotation.cos[..., :4], middle.cos[..., :4], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_packs_like_float32(dtype):
    kernels = [(4, 8, 8), (16, 32, 32)]
    packer = Packer(projection(), kernels=kernels, rope=ROPE)
    x, indices = torch.randn(1, 4, 5, 10, 10), torch.arange(5)[None]
    valid = torch.tensor([[False, True, True, True, True]])

    def pieces(latents):
        slots = [Piece(latents, indices, kernel, valid=valid) for kernel in kernels]
        return [*slots, *(Piece(latents, indices, kernels[0], tail=tail) for tail in ("ta", "tc"))]

    exact = packer(pieces(x)).tokens
    half = packer.to(dtype)(pieces(x.to(dtype))).tokens
    assert half.dtype == dtype
    assert torch.allclose(half.float(), exact, atol=0.05)


def test_weights_learn_and_round_trip():
    _, packer = packer_for("f4k2f1k1_g1")
    _, other = packer_for("f4k2f1k1_g1")
    nn.init.normal_(packer.projections["k2h4w4"].weight)
    other.load_state_dict(packer.state_dict())
    piece = Piece(torch.randn(1, 4, 4, 8, 8), torch.arange(4)[None], (2, 4, 4))
    packed = other([piece])
    assert torch.equal(packed.tokens, packer([piece]).tokens)
    packed.tokens.sum().backward()
    assert other.projections["k2h4w4"].weight.grad is not None


@pytest.fixture(scope="module")
def oracle():
    """diffusers' FramePack transformer, tiny, with what its first block received."""
    torch.manual_seed(1)
    model = HunyuanVideoFramepackTransformer3DModel(
        in_channels=16, out_channels=16, num_attention_heads=2, attention_head_dim=10, num_layers=1,
        num_single_layers=1, num_refiner_layers=1, patch_size=2, patch_size_t=1, guidance_embeds=True,
        text_embed_dim=16, pooled_projection_dim=8, rope_axes_dim=(2, 4, 4), image_condition_type=None,
        has_image_proj=True, image_proj_dim=16, has_clean_x_embedder=True,
    ).eval()  # fmt: skip
    seen = SimpleNamespace()

    def record(_block, arguments):
        seen.tokens, seen.rotation = arguments[0], arguments[4]

    model.transformer_blocks[0].register_forward_pre_hook(record)
    return model, seen


@pytest.mark.parametrize("grid", [(8, 8), (10, 14)])
@pytest.mark.parametrize("order", ["f1", "inverted"])
def test_packing_equals_diffusers_to_the_bit(oracle, grid, order):
    model, seen = oracle
    start, coarse, middle, recent, target = {
        "f1": ([0], range(1, 17), [17, 18], [19], range(20, 29)),
        "inverted": ([0], range(40, 56), [38, 39], [37], range(28, 37)),
    }[order]
    places = {"clean": [*start, *recent], "2x": [*middle], "4x": [*coarse], "target": [*target]}
    indices = {name: torch.tensor(frames) for name, frames in places.items()}
    latents = {name: torch.randn(1, 16, len(frames), *grid) for name, frames in places.items()}
    with torch.no_grad():
        model(
            hidden_states=latents["target"], indices_latents=indices["target"],
            latents_clean=latents["clean"], indices_latents_clean=indices["clean"],
            latents_history_2x=latents["2x"], indices_latents_history_2x=indices["2x"],
            latents_history_4x=latents["4x"], indices_latents_history_4x=indices["4x"],
            timestep=torch.tensor([500]), guidance=torch.tensor([10_000.0]), image_embeds=torch.randn(1, 2, 16),
            encoder_hidden_states=torch.randn(1, 3, 16), encoder_attention_mask=torch.ones(1, 3),
            pooled_projections=torch.randn(1, 8),
        )  # fmt: skip
    kernels = {"4x": (4, 8, 8), "2x": (2, 4, 4), "clean": BASE}
    rope = Rope(dims=(2, 4, 4))
    packer = Packer(model.x_embedder.proj, kernels=kernels.values(), rope=rope)
    theirs = model.clean_x_embedder
    for key, module in {"k1h2w2": theirs.proj, "k2h4w4": theirs.proj_2x, "k4h8w8": theirs.proj_4x}.items():
        packer.projections[key].load_state_dict(module.state_dict())
    with torch.no_grad():
        packed = packer([Piece(latents[name], indices[name][None], kernel) for name, kernel in kernels.items()])
    aim = phases(rope, indices["target"][None], grid=(grid[0] // 2, grid[1] // 2))
    count = packed.tokens.shape[1]
    assert torch.equal(packed.tokens, seen.tokens[:, :count])
    for ours, target_part, both in zip(packed.rotation, aim, seen.rotation, strict=True):
        assert torch.equal(torch.cat([ours, target_part], dim=1)[0], both)
