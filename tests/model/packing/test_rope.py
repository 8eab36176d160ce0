"""Pooled rotary phases, against diffusers' functions and against the rotation they stand for."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb, get_1d_rotary_pos_embed

from model.packing.rope import Rope, Rotation, pad_whole, phases, rotate

ROPE = Rope(dims=(4, 6, 6))
ANGLE = Rope(dims=(4, 6, 6), pooling="angle")


def test_every_axis_has_its_own_channels():
    rotation = phases(ROPE, torch.tensor([[7, 3]]), grid=(2, 3))
    assert rotation.cos.shape == rotation.sin.shape == (1, 2 * 2 * 3, 16)
    token = 1 * 6 + 1 * 3 + 2  # frame 3, row 1, column 2
    positions = zip(ROPE.dims, (3, 1, 2), strict=True)
    expected = [get_1d_rotary_pos_embed(dim, torch.tensor([float(at)]), 256.0, use_real=True) for dim, at in positions]
    assert torch.equal(rotation.cos[0, token], torch.cat([cos[0] for cos, _ in expected]))
    assert torch.equal(rotation.sin[0, token], torch.cat([sin[0] for _, sin in expected]))


def test_a_batch_has_indices_of_its_own():
    both = phases(ROPE, torch.tensor([[0, 1], [5, 9]]), grid=(2, 2), pools=[(2, 2, 2)])
    alone = phases(ROPE, torch.tensor([[5, 9]]), grid=(2, 2), pools=[(2, 2, 2)])
    assert torch.equal(both.cos[1:], alone.cos)
    assert not torch.equal(both.cos[0], both.cos[1])


@pytest.mark.parametrize(("pool", "largest"), [(2, 0.878), (4, 0.474), (8, 0.197)])
def test_phase_pooling_shrinks_and_angle_pooling_does_not(pool, largest):
    indices = torch.arange(float(pool))[None]
    shrunk = phases(Rope(), indices, grid=(8, 8), pools=[(pool, pool, pool)])
    magnitude = (shrunk.cos**2 + shrunk.sin**2).sqrt()
    assert magnitude[..., 0].max() == pytest.approx(largest, abs=1e-3)  # the fastest component of time
    exact = phases(Rope(pooling="angle"), indices, grid=(8, 8), pools=[(pool, pool, pool)])
    assert torch.allclose(exact.cos**2 + exact.sin**2, torch.ones_like(exact.cos), atol=1e-5)


def test_angle_pooling_turns_by_the_mean_position():
    pooled = phases(ANGLE, torch.tensor([[10.0, 12.0]]), grid=(2, 2), pools=[(2, 2, 2)])
    whole = phases(ANGLE, torch.tensor([[11.0]]), grid=(1, 1))
    assert torch.allclose(pooled.cos[..., :4], whole.cos[..., :4], atol=1e-6)
    half_row = get_1d_rotary_pos_embed(6, torch.tensor([0.5]), 256.0, use_real=True)
    assert torch.allclose(pooled.sin[0, 0, 4:10], half_row[1][0], atol=1e-6)


def test_pooling_in_two_steps_equals_one_on_whole_tokens():
    for rope in (ROPE, ANGLE):
        once = phases(rope, torch.arange(4)[None], grid=(8, 4), pools=[(4, 4, 4)])
        twice = phases(rope, torch.arange(4)[None], grid=(8, 4), pools=[(2, 2, 2), (2, 2, 2)])
        assert torch.allclose(once.cos, twice.cos, atol=1e-6)


def test_edges_repeat():
    frames = torch.arange(5.0)[None]
    padded = torch.tensor([[0.0, 1, 2, 3, 4, 4]])
    pooled = phases(ANGLE, frames, grid=(2, 2), pools=[(2, 2, 2)])
    assert torch.equal(pooled.cos, phases(ANGLE, padded, grid=(2, 2), pools=[(2, 2, 2)]).cos)
    x = torch.arange(6.0).view(1, 1, 1, 2, 3)
    assert pad_whole(x, (1, 2, 2))[0, 0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5]]


def test_rotate_equals_diffusers():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 12, 16)
    rotation = phases(ROPE, torch.tensor([[7, 3]]), grid=(2, 3))
    assert torch.equal(rotate(x, rotation), apply_rotary_emb(x, (rotation.cos[0], rotation.sin[0])))
    assert rotate(x.bfloat16(), rotation).dtype == torch.bfloat16


def test_rotated_products_depend_on_distances_only():
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 16)

    def product(query_at: int, key_at: int) -> float:
        turned = [rotate(x, phases(ROPE, torch.tensor([[at]]), grid=(1, 1))) for x, at in ((q, query_at), (k, key_at))]
        return (turned[0] * turned[1]).sum().item()

    assert product(5, 2) == pytest.approx(product(103, 100), abs=1e-4)
    assert product(5, 2) != pytest.approx(product(5, 3), abs=1e-4)


def test_a_rotation_is_the_pooled_table():
    table = phases(ROPE, torch.arange(4)[None], grid=(4, 4))
    cube = table.cos.transpose(1, 2).unflatten(2, (4, 4, 4))
    pooled = Rotation(*phases(ROPE, torch.arange(4)[None], grid=(4, 4), pools=[(1, 4, 4)])).cos
    assert torch.allclose(F.avg_pool3d(cube, (1, 4, 4)).flatten(2).transpose(1, 2), pooled, atol=1e-7)


def test_angles_in_double_are_those_of_wan():
    rotation = phases(Rope((4, 6, 6), theta=10_000.0, is_double=True), torch.tensor([[1001]]), grid=(1, 1))
    cos, sin = get_1d_rotary_pos_embed(4, torch.tensor([1001]), 10_000.0, use_real=True, freqs_dtype=torch.float64)
    assert torch.equal(rotation.cos[0, :, :4], cos)
    assert torch.equal(rotation.sin[0, :, :4], sin)
    assert rotation.cos.dtype == torch.float32
