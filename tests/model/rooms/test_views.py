import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from model.rooms.geometry import look_back
from model.rooms.vae import VAE, VAEConfig
from model.rooms.views import NEARBY, SHARPENING, STRONG, Pictures, Sources, composed, encoded, filled, sharpened
from tests.model.rooms.planes import EDGE, wall_depth, wall_picture

DISTANCE, MAP, SIZE = 3.0, 32, 64


def wall_from(*poses: tuple[float, float, float], valid: tuple[bool, ...] | None = None) -> Sources:
    """Views of a wall; the first is the frame before."""
    at = torch.tensor([poses])
    known = torch.tensor([valid or (True,) * len(poses)])
    return Sources(at, wall_picture(at, DISTANCE, SIZE), wall_depth(at, DISTANCE, MAP), known)


def truth() -> Tensor:
    return wall_picture(torch.zeros(3), DISTANCE, SIZE)


@settings(max_examples=20)
@given(st.integers(0, 99))
def test_a_camera_that_stays_sees_the_frame_before(seed: int) -> None:
    """Whatever its depth."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(1, 2, 3, SIZE, SIZE, generator=generator) * 2 - 1
    depths = 0.1 + torch.rand(1, 2, MAP, MAP, generator=generator)
    sources = Sources(torch.zeros(1, 2, 3), images, depths, torch.tensor([[True, False]]))
    pictures, shares = composed(sources, edge=EDGE)
    torch.testing.assert_close(pictures, images[:, :1].expand_as(pictures), atol=1e-4, rtol=1e-4)
    assert shares[:, 0].all()
    assert not shares[:, 1].any()


def test_the_frame_before_is_seen_from_the_next_camera() -> None:
    sources = wall_from((-0.16, 0.1, 0.05), (9.0, 0.0, 0.0), valid=(True, False))
    pictures, shares = composed(sources, edge=EDGE)
    shown = shares[0, 0] > 0
    assert shown.float().mean() > 0.85
    error = (pictures[0, 0] - truth()).abs().amax(0)[shown].mean()
    assert error < 0.02
    assert (sources.images[0, 0] - truth()).abs().amax(0)[shown].mean() > 3 * error


def test_memory_fills_what_the_frame_before_does_not_show() -> None:
    sources = wall_from((0.0, 0.0, 0.5), (0.0, 0.6, 0.0), (0.5, -0.4, -0.2))
    pictures, shares = composed(sources, edge=EDGE)
    before, memory = shares[0] > 0
    assert 0.15 < 1 - before.float().mean() < 0.6  # half a radian of what is now in view
    assert (before | memory).float().mean() > 0.95
    off = (pictures[0] - truth()).abs().amax(1)
    assert off[0][memory & ~before].mean() < 0.03
    assert off[1][memory].mean() < 0.03
    without, bare = composed(sources._replace(valid=torch.tensor([[True, False, False]])), edge=EDGE)
    assert not bare[0, 1].any()
    assert torch.equal(without[0, 0], without[0, 1])
    assert (without[0, 0] - truth()).abs().amax(0)[memory & ~before].mean() > 0.3
    torch.testing.assert_close(without[0, 0][:, before], pictures[0, 0][:, before])


def test_masks_say_who_has_it_in_view() -> None:
    sources = wall_from((0.0, 0.0, 0.5), (0.0, 0.0, -0.5))
    _, shares = composed(sources, edge=EDGE)
    _, _, inside = look_back(sources.poses, torch.full((1, SIZE, SIZE), 1 / DISTANCE), SIZE, EDGE)
    assert ((shares[0] > 0) != inside[0]).float().mean((1, 2)).max() < 0.1  # along the borders
    assert shares[0, 0, :, : SIZE // 4].mean() > 0.9 > 0.1 > shares[0, 0, :, -SIZE // 4 :].mean()
    assert shares[0, 1, :, -SIZE // 4 :].mean() > 0.9 > 0.1 > shares[0, 1, :, : SIZE // 4].mean()


def test_memory_from_nearby_comes_before_the_frame_before() -> None:
    """It has been resampled once, the frame before once for each frame since it came into view."""
    for away, is_memory in ((0.8 * NEARBY, True), (1.5 * NEARBY, False)):
        sources = wall_from((-0.16, 0.0, 0.0), (-away, 0.0, 0.0))
        sources.images[:, 0] = 0.25
        pictures, shares = composed(sources, edge=EDGE)
        base, recalled = pictures[0]
        inner = (..., slice(16, -16), slice(16, -16))
        assert shares[inner].all()
        assert torch.equal(base[inner], recalled[inner]) == is_memory
        assert ((base[inner] - 0.25).abs().max() < 1e-4) != is_memory


def test_the_frame_before_knows_depth_better_than_memory_from_afar() -> None:
    """Where both see a surface, the base goes by the depth of the frame before."""
    sources = wall_from((-0.3, 0.0, 0.0), (-0.6, 0.0, 0.0))
    right = composed(sources, edge=EDGE)[0][:, 0]
    sources.depths[0, 1] *= 1.5
    wrong = composed(sources, edge=EDGE)[0]
    inner = (..., slice(12, -12), slice(12, -12))
    torch.testing.assert_close(wrong[:, 0][inner], right[inner])
    assert (wrong[:, 1][inner] - right[inner]).abs().mean() > 0.02


def test_previews_are_the_pictures_encoded() -> None:
    torch.manual_seed(0)
    vae = VAE(VAEConfig(widths=(8, 8, 16), depths=(1, 1, 1))).eval()
    sources = wall_from((0.0, 0.0, 0.5), (0.0, 0.4, 0.0))
    with torch.no_grad():
        shown = encoded(vae, composed(sources, edge=EDGE))
        pictures, shares = composed(sources, edge=EDGE)
        torch.testing.assert_close(shown.base, vae.encode(pictures[:, 0]), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(shown.recalled, vae.encode(pictures[:, 1]), atol=1e-5, rtol=1e-4)
    assert torch.equal(shown.shares, F.avg_pool2d(shares, 8))
    assert shown.shares.shape == (1, 2, 8, 8)


def test_scouts_show_only_what_nothing_else_does() -> None:
    sources = wall_from((0.0, 0.0, 0.5), (0.0, 0.0, 0.4))
    ahead = wall_from((0.0, 0.0, 0.0), (0.0, 0.0, -0.3))
    ahead = ahead._replace(images=torch.full_like(ahead.images, 0.25))
    known = composed(sources, edge=EDGE)
    (before, seen), (pictures, shares) = known, filled(known, ahead, edge=EDGE)
    was, now = seen.amax(1) > 0, shares.amax(1) > 0
    assert was.float().mean() < 0.9 < now.float().mean()
    assert torch.equal(pictures[:, 0].movedim(1, -1)[was], before[:, 0].movedim(1, -1)[was])
    fresh = now & ~was
    assert (pictures[:, 0].movedim(1, -1)[fresh] - 0.25).abs().max() < 1e-3
    assert (pictures[:, 1].movedim(1, -1)[fresh] - 0.25).abs().max() < 1e-3
    nobody = ahead._replace(valid=torch.zeros_like(ahead.valid))
    assert all(map(torch.equal, filled(known, nobody, edge=EDGE), known))


@pytest.mark.parametrize("contrast", [0.02, 0.3])
def test_faint_detail_is_sharpened_more_than_edges(contrast: float) -> None:
    columns = 0.5 * contrast * (1 - 2 * (torch.arange(SIZE) % 2))
    stripes = columns.expand(1, 2, 3, SIZE, SIZE)
    shares = torch.ones(1, 2, SIZE, SIZE)
    inner = (..., slice(1, -1))
    grown = sharpened(Pictures(stripes, shares)).both[inner] / stripes[inner] - 1
    detail = 2 / 3 * contrast  # a pixel is half of it from the middle, its neighbours' mean a sixth the other way
    torch.testing.assert_close(grown, torch.full_like(grown, 4 / 3 * SHARPENING / (1 + (detail / STRONG) ** 2)))


def test_sharpening_keeps_what_is_plain_and_its_range() -> None:
    plain = torch.full((1, 2, 3, SIZE, SIZE), 0.4)
    half = (torch.arange(SIZE) < SIZE // 2).float().mul(2).sub(1).expand_as(plain)
    for picture in (plain, half):
        pictures = Pictures(picture, torch.ones(1, 2, SIZE, SIZE))
        torch.testing.assert_close(sharpened(pictures), pictures)
