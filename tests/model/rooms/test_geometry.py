import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from model.rooms.camera import relative
from model.rooms.geometry import (
    CELL,
    CELLS,
    MOST_DOUBT,
    Seen,
    gather,
    ground_map,
    look_back,
    over,
    project,
    splat,
    spread,
    tangents,
)
from tests.model.rooms.planes import EDGE, wall_depth, wall_picture

N = 32
EYE = 1.5
poses = st.tuples(st.floats(-0.7, 0.7), st.floats(-0.7, 0.7), st.floats(-0.5, 0.5)).map(torch.tensor)
distances = st.floats(2.0, 6.0)


def one(x: Tensor) -> Tensor:
    """A batch of one target with one source."""
    return x[None, None]


def always(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.bool)


@given(poses, st.integers(0, 9))
def test_project_is_what_points_in_space_say(pose: Tensor, seed: int) -> None:
    near = 0.2 + torch.rand(N, N, generator=torch.Generator().manual_seed(seed))
    u = tangents(N, EDGE, near.device)
    sideways, down = torch.meshgrid(u, u, indexing="xy")
    points = torch.stack([torch.ones_like(near), -sideways, -down]) / near  # ahead, to the left, up of the source
    ahead, left, turned = pose
    rotation = torch.tensor([[turned.cos(), -turned.sin(), 0], [turned.sin(), turned.cos(), 0], [0, 0, 1]])
    moved = torch.einsum("ij,jhw->ihw", rotation, points) + torch.stack([ahead, left, ahead * 0]).view(3, 1, 1)
    found = project(pose, near, EDGE)
    front = found[3] & (moved[0] > 0.1)
    assert front.float().mean() > 0.5
    expected = (-moved[1] / moved[0], -moved[2] / moved[0], 1 / moved[0])
    for mine, theirs in zip(found[:3], expected, strict=True):
        torch.testing.assert_close(mine[front], theirs[front], atol=1e-4, rtol=1e-3)


@given(poses, st.integers(0, 9))
def test_looking_back_is_projecting_the_other_way_round(pose: Tensor, seed: int) -> None:
    near = 0.2 + torch.rand(1, N, N, generator=torch.Generator().manual_seed(seed))
    where, expected, inside = look_back(one(pose), near, N, EDGE)
    target_seen_from_source = relative(torch.zeros(3), pose)
    u, v, seen, front = project(target_seen_from_source, near[0], EDGE)
    inside = inside[0, 0]
    off = inside != (front & (u.abs() <= EDGE) & (v.abs() <= EDGE))
    assert ((torch.maximum(u.abs(), v.abs()) - EDGE).abs()[off] < 1e-4).all()
    torch.testing.assert_close(where[0, 0, ..., 0][inside] * EDGE, u[inside], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(where[0, 0, ..., 1][inside] * EDGE, v[inside], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(expected[0, 0][inside], seen[inside], atol=1e-4, rtol=1e-3)


@given(poses, distances)
def test_a_wall_carried_to_the_target_is_as_far_as_it_is(pose: Tensor, distance: float) -> None:
    seen = splat(one(pose), one(wall_depth(pose, distance, N)), always(1, 1), edge=EDGE, size=N)
    known = seen.known[0] > 0
    torch.testing.assert_close(
        seen.depth[0][known], torch.full((int(known.sum()),), 1 / distance), atol=1e-4, rtol=1e-3
    )
    where, _, inside = look_back(one(pose), torch.full((1, N, N), 1 / distance), N, EDGE)
    well_inside = inside[0, 0] & (where[0, 0].abs().amax(-1) < 1 - 4 / N)
    assert known[2:-2, 2:-2][well_inside[2:-2, 2:-2]].all()  # at the edge a gap has too few neighbours
    beyond = F.max_pool2d(inside.float(), 7, 1, 3)[0, 0] == 0  # closing gaps reaches two pixels further
    assert not known[beyond].any()


def test_the_nearest_surface_is_kept() -> None:
    """A pillar in front of a wall, seen by two cameras; where both show something the pillar hides the wall."""
    around = torch.tensor([[[0.3, 0.2, 0.1], [0.0, 0.0, 0.0]]])
    wall = wall_depth(around, 4.0, N)
    wall[0, 1, :, 12:20] = 1 / 1.5
    seen = splat(around, wall, always(1, 2), edge=EDGE, size=N)
    torch.testing.assert_close(seen.depth[0, :, 12:20], torch.full((N, 8), 1 / 1.5))
    assert (seen.depth[0, :, 22:30] < 0.26).all()


def test_what_one_does_not_show_the_other_may() -> None:
    known = torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    shown = over(Seen(torch.full((1, 4), 0.5), known[0]), Seen(torch.full((1, 4), 0.9), known[1]))
    assert shown.known.tolist() == [[1, 1, 1, 0]]
    torch.testing.assert_close(shown.depth[:, :3], torch.tensor([[0.5, 0.5, 0.9]]))


def test_spreading_keeps_what_is_known_and_fills_the_rest_from_near() -> None:
    known = torch.zeros(2, N, N)
    known[0, 4:9, 4:9] = 1
    known[0, -6:, -6:] = 1
    depth = torch.where(torch.arange(N) < N // 2, 0.3, 0.8).expand(2, N, N) * known + 9 * (1 - known)
    filled = spread(Seen(depth, known))
    assert torch.equal(filled[0][known[0] > 0], depth[0][known[0] > 0])
    torch.testing.assert_close(filled[0, 0, 0], torch.tensor(0.3))
    torch.testing.assert_close(filled[0, -1, -8], torch.tensor(0.8))
    assert (filled[0] <= 0.81).all()
    assert not filled[1].any()


@settings(max_examples=20)
@given(st.lists(poses, min_size=1, max_size=3), distances)
def test_a_picture_put_together_is_the_one_that_would_be_seen(around: list[Tensor], distance: float) -> None:
    sources, size = torch.stack(around)[None], 96
    depths, images = wall_depth(sources, distance, N), wall_picture(sources, distance, size)
    seen = splat(sources, depths, always(*sources.shape[:2]), edge=EDGE, size=N)
    picture, doubt = gather(sources, images, depths, always(*sources.shape[:2]), seen=seen, edge=EDGE)
    truth = wall_picture(torch.zeros(1, 3), distance, size)
    shown = doubt.isfinite().expand_as(truth)
    error = (picture - truth)[shown].abs()
    assert error.mean() < 0.01
    assert (error < 0.05).float().mean() > 0.97  # but for where what is known ends
    _, _, inside = look_back(sources, torch.full((1, size, size), 1 / distance), size, EDGE)
    assert doubt.isfinite().float().mean() > 0.9 * inside.any(1).float().mean() - 0.1


def test_gathering_leaves_out_who_sees_another_surface() -> None:
    seen = Seen(torch.full((1, N, N), 1 / 4), torch.ones(1, N, N))
    images = torch.stack([torch.full((3, N, N), 0.5), torch.full((3, N, N), -0.5)])[None]
    here = torch.zeros(1, 2, 3)
    depths = torch.stack([torch.full((N, N), 1 / 4), torch.full((N, N), 1.0)])[None]
    picture, doubt = gather(here, images, depths, always(1, 2), seen=seen, edge=EDGE)
    assert (picture - 0.5).abs().max() < 1e-3
    assert doubt.max() < 0.01
    picture, doubt = gather(here[:, 1:], images[:, 1:], depths[:, 1:], always(1, 1), seen=seen, edge=EDGE)
    assert doubt.isinf().all() and not picture.any()


def test_gathering_trusts_the_nearest_most() -> None:
    sources = torch.tensor([[[0.0, 0.1, 0.0], [-1.5, 0.0, 0.0]]])
    images = torch.stack([torch.full((3, N, N), 0.5), torch.full((3, N, N), -0.5)])[None]
    seen = Seen(torch.full((1, N, N), 1 / 4), torch.ones(1, N, N))
    picture, doubt = gather(sources, images, wall_depth(sources, 4.0, N), always(1, 2), seen=seen, edge=EDGE)
    assert picture[..., N // 2].min() > 0.45
    assert doubt[..., N // 2].sub(0.1).abs().max() < 0.02  # as many metres away


def test_gathering_has_no_use_for_who_stood_too_far_away() -> None:
    for away in (3.0, 5.5, 6.5, 60.0):
        source = torch.tensor([[[-away, 0.0, 0.0]]])
        images = torch.full((1, 1, 3, N, N), 0.5)
        seen = Seen(torch.full((1, N, N), 1 / 4), torch.ones(1, N, N))
        picture, doubt = gather(source, images, wall_depth(source, 4.0, N), always(1, 1), seen=seen, edge=EDGE)
        assert doubt.isfinite().all() == (away < MOST_DOUBT)
        assert picture.isfinite().all()


@pytest.mark.parametrize("pose", [(0.0, 0.0, 0.0), (-0.5, 0.3, 0.2), (0.4, 0.1, -0.3)])
def test_a_wall_stands_in_its_cells_of_the_ground_map(pose: tuple[float, float, float]) -> None:
    where, distance = torch.tensor(pose), 1.02
    ground = ground_map(one(where), one(wall_depth(where, distance, 64)), always(1, 1), edge=EDGE, eye=EYE)[0]
    row = int(CELLS / 2 - distance / CELL)
    assert ground[row].sum() == ground.sum()  # nothing anywhere else
    cells = ground[row].nonzero().flatten()
    right = (cells + 0.5 - CELLS / 2) * CELL  # metres
    half = EDGE * distance
    if not any(pose):
        assert (right.abs() < half + CELL).all()
        assert len(cells) == pytest.approx(2 * half / CELL, abs=2)
        assert (ground[row, cells] == 1).all()
    assert len(cells) > 10


def test_what_is_to_the_right_stands_on_the_right_of_the_map() -> None:
    turned_right = torch.tensor([0.0, 0.0, -1.2])
    depth = torch.full((64, 64), 1 / 1.2)
    ground = ground_map(one(turned_right), one(depth), always(1, 1), edge=EDGE, eye=EYE)[0]
    assert ground[:, : CELLS // 2].sum() == 0 < ground[:, CELLS // 2 :].sum()


def test_floor_and_ceiling_do_not_stand_in_the_way() -> None:
    v = tangents(64, EDGE, torch.device("cpu"))[:, None].expand(64, 64)
    depth = torch.where(v > 0, v / EYE, -v / 1.2)  # a ceiling 2.7 metres up
    assert not ground_map(torch.zeros(1, 1, 3), one(depth), always(1, 1), edge=EDGE, eye=EYE).any()
    low = torch.where(v > 0, v / (EYE - 0.5), -v / 1.2)  # a table half a metre high
    assert ground_map(torch.zeros(1, 1, 3), one(low), always(1, 1), edge=EDGE, eye=EYE).any()


def test_invalid_sources_and_other_targets_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    around = torch.randn(2, 3, 3, generator=generator) * 0.2
    depths, images = wall_depth(around, 3.0, N), wall_picture(around, 3.0, N)
    valid = torch.tensor([[True, True, False], [True, True, True]])
    depths[0, 2], images[0, 2] = torch.rand(N, N, generator=generator) * 5, 0.7
    together = splat(around, depths, valid, edge=EDGE, size=N)
    pictures = gather(around, images, depths, valid, seen=together, edge=EDGE)
    maps = ground_map(around, depths, valid, edge=EDGE, eye=EYE)
    for i, sources in enumerate((slice(0, 2), slice(0, 3))):
        mine = around[i : i + 1, sources], depths[i : i + 1, sources], valid[i : i + 1, sources]
        alone = splat(*mine, edge=EDGE, size=N)
        for part, whole in zip(alone, together, strict=True):
            torch.testing.assert_close(part[0], whole[i])
        shown = gather(mine[0], images[i : i + 1, sources], *mine[1:], seen=alone, edge=EDGE)
        for part, whole in zip(shown, pictures, strict=True):
            torch.testing.assert_close(part[0], whole[i], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ground_map(*mine, edge=EDGE, eye=EYE)[0], maps[i])
    nobody = splat(around, depths, torch.zeros_like(valid), edge=EDGE, size=N)
    assert not nobody.known.any()
