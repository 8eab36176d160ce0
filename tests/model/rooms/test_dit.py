import pytest
import torch
from torch.nn import functional as F

from model.rooms.camera import Camera
from model.rooms.dit import (
    AGE,
    KERNELS,
    POSITION,
    DiT,
    Phases,
    attend,
    for_heads,
    patchify,
    pose_angles,
    product,
    ray_phases,
    rotate,
    unpatchify,
)
from tests.model.rooms.small import DIT, networks


def test_patchify_round_trip() -> None:
    latents = torch.randn(2, 16, 16, 16)
    tokens = patchify(latents[:, None], (1, 2, 2))
    assert tokens.shape == (2, 64, 64)
    assert torch.equal(unpatchify(tokens, 16, 16, 2), latents)


@pytest.mark.parametrize("kind", ["k2", "k4", "s2"])
def test_kernels_start_as_average_pooling(kind: str) -> None:
    """`proj_k(x) == proj(avg_pool(x))`, FramePack's initialisation."""
    dit = DiT(DIT)
    t, h, w = KERNELS[kind]
    latents = torch.randn(3, t, 16, 16, 16)
    pooled = F.avg_pool3d(latents.movedim(2, 1), (t, h // 2, w // 2)).movedim(1, 2)
    base, own = dit.patchify["k1"], dit.patchify[kind]
    torch.testing.assert_close(
        F.linear(patchify(latents, KERNELS[kind]), own.weight),
        F.linear(patchify(pooled, (1, 2, 2)), base.weight),
        atol=1e-5,
        rtol=1e-4,
    )


def test_missing_kernels_are_tiled_from_the_base_as_it_is_now() -> None:
    dit = DiT(DIT)
    torch.nn.init.normal_(dit.patchify["k1"].weight)
    kernels = {"k1": (1, 2, 2), "k8": (8, 16, 16), "k1h4w8": (1, 4, 8), "tail_k4": (4, 8, 8)}
    assert dit.add_kernels(kernels) == ["k8", "k1h4w8"]
    assert dit.add_kernels(kernels) == []
    for kind in ("k8", "k1h4w8"):
        t, h, w = kernels[kind]
        latents = torch.randn(2, t, 16, 16, 16)
        pooled = F.avg_pool3d(latents.movedim(2, 1), (t, h // 2, w // 2)).movedim(1, 2)
        expected = dit.patchify["k1"](
            pooled.unflatten(3, (-1, 2)).unflatten(5, (-1, 2)).permute(0, 3, 5, 1, 2, 4, 6).flatten(3).flatten(1, 2)
        )
        torch.testing.assert_close(dit.context_tokens(kind, latents), expected, atol=1e-5, rtol=1e-4)
        assert len(dit.pixels(kind).cos) == dit.context_tokens(kind, latents).shape[1]


def test_a_tail_is_one_token_of_its_mean() -> None:
    dit = DiT(DIT)
    dit.add_kernels({"tail_k4": (4, 8, 8)})
    latents = torch.randn(3, 7, 16, 16, 16)
    even = latents.mean((1, 3, 4), keepdim=True).expand(-1, 4, -1, 16, 16)
    torch.testing.assert_close(dit.context_tokens("tail_k4", latents), dit.context_tokens("k4", even)[:, :1])
    assert dit.pixels("tail_k4").cos.shape == (1, dit.pixels("k4").cos.shape[1])


def test_phases_make_attention_depend_on_relative_directions_only() -> None:
    """Turning all cameras by the same angle leaves every dot product as it was."""
    pixels = ray_phases(Camera(), 16, (1, 2, 2))
    query, key = torch.randn(64, 1, 64), torch.randn(64, 1, 64)

    def logits(turn: float) -> torch.Tensor:
        rotated = []
        for x, heading in ((query, 0.3), (key, -0.2)):
            angles = pose_angles(torch.tensor([0.0, 0.0, heading + turn]), torch.tensor(0.0))
            phases = product(Phases(angles.cos(), angles.sin()), pixels)
            rotated.append(rotate(x, for_heads(phases, x.dtype)))
        return rotated[0][:, 0] @ rotated[1][:, 0].T

    torch.testing.assert_close(logits(0.0), logits(1.234), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(logits(0.0), logits(2 * torch.pi), atol=1e-3, rtol=1e-3)


def test_pooled_phases_shrink_and_leave_pose_pairs_alone() -> None:
    fine, coarse = ray_phases(Camera(), 16, (1, 2, 2)), ray_phases(Camera(), 16, (4, 8, 8))
    assert coarse.cos.shape[0] == 4
    size = (coarse.cos.square() + coarse.sin.square()).sqrt()
    assert size[:, : 32 - len(POSITION) * 2 - len(AGE)].max() <= 1
    assert size[:, 9].max() < (fine.cos.square() + fine.sin.square()).sqrt()[:, 9].min()
    assert torch.equal(coarse.cos[:, -1], torch.ones(4))


def test_rotation_is_a_complex_product() -> None:
    x, angles = torch.randn(7, 2, 64), torch.randn(7, 32)
    phases = Phases(angles.cos().repeat(1, 2), torch.cat([-angles.sin(), angles.sin()], 1))
    expected = torch.complex(*x.chunk(2, -1)) * torch.polar(torch.ones(7, 1, 32), angles[:, None])
    turned = rotate(x, for_heads(phases, x.dtype))
    torch.testing.assert_close(turned, torch.cat([expected.real, expected.imag], -1))
    torch.testing.assert_close(rotate(turned, for_heads(phases, x.dtype), back=True), x)


def test_attend_equals_torch() -> None:
    query, keys, values = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 8)
    bias = torch.zeros(2, 1, 1, 7).masked_fill(torch.rand(2, 1, 1, 7) < 0.3, -torch.inf)
    expected = F.scaled_dot_product_attention(query, keys, values, bias)
    torch.testing.assert_close(attend(query, keys, values, bias), expected)


def test_groups_in_one_row_do_not_see_each_other() -> None:
    dit = networks().dit
    one, two = torch.randn(1, 1, 16, 16, 16), torch.randn(1, 1, 16, 16, 16)
    alone = dit.context_kv(dit.context_tokens("s2", one), dit.pixels("s2"))
    tokens = torch.cat([dit.context_tokens("s2", one), dit.context_tokens("k1", two)], 1)
    owner = torch.tensor([0] * 16 + [1] * 64)
    bias = torch.zeros(80, 80).masked_fill(owner[:, None] != owner, -torch.inf)
    phases = Phases(*(torch.cat(part) for part in zip(dit.pixels("s2"), dit.pixels("k1"), strict=True)))
    together = dit.context_kv(tokens, phases, bias)
    torch.testing.assert_close(together.keys[:, :, :16], alone.keys, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.values[:, :, :16], alone.values, atol=1e-5, rtol=1e-4)
