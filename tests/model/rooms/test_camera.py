import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from model.rooms.camera import Camera, displacement_between, move, moved_along, rays, relative, turned

CAMERA = Camera()
unit = st.floats(-1, 1, width=32)


@given(unit, unit, unit, st.floats(-3, 3, width=32))
def test_displacement_is_what_moved_the_pose(ahead: float, right: float, turn: float, heading: float) -> None:
    before = torch.tensor([1.0, -2.0, heading])
    after = move(CAMERA, before, torch.tensor([ahead, right, turn]))
    torch.testing.assert_close(
        displacement_between(CAMERA, before, after), torch.tensor([ahead, right]), atol=1e-5, rtol=1e-4
    )


def test_moving_along_is_moving_again_and_again() -> None:
    controls = torch.rand(9, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pose = start = torch.tensor([1.0, -2.0, 0.5])
    for there, control in zip(moved_along(CAMERA, start, controls), controls, strict=True):
        pose = move(CAMERA, pose, control)
        torch.testing.assert_close(there, pose)


def test_moving_ahead_follows_the_heading() -> None:
    north = torch.tensor([0.0, 0.0, math.pi / 2])
    assert torch.allclose(
        move(CAMERA, north, torch.tensor([1.0, 0, 0])), torch.tensor([0, CAMERA.step, math.pi / 2]), atol=1e-6
    )
    assert torch.allclose(
        move(CAMERA, north, torch.tensor([0, 1.0, 0])), torch.tensor([CAMERA.step, 0, math.pi / 2]), atol=1e-6
    )
    assert move(CAMERA, north, torch.tensor([0, 0, 1.0]))[2] < north[2]  # to the right is clockwise


@given(st.floats(-3, 3, width=32), st.floats(-3, 3, width=32), st.floats(-3, 3, width=32))
def test_a_pose_seen_from_itself_is_the_origin(x: float, y: float, heading: float) -> None:
    pose = torch.tensor([x, y, heading])
    assert torch.allclose(relative(pose, pose), torch.zeros(3), atol=1e-5)


def test_rays_span_the_field_of_view() -> None:
    direction = rays(CAMERA, 512)
    half = CAMERA.fov / 2
    assert abs(direction[256, 0, 0] - half) < 3e-3
    assert abs(direction[256, -1, 0] + half) < 3e-3  # right is clockwise, negative
    assert direction[0, 256, 1] > 0 > direction[-1, 256, 1]


def test_turning_moves_the_picture_by_the_homography() -> None:
    size, turn = 64, 1.0
    direction = rays(CAMERA, size)
    latents = direction[..., 0][None, None].clone()  # each pixel holds its own azimuth
    seen_from_there, seen = turned(CAMERA, latents, torch.tensor([turn]))
    expected = direction[..., 0] - CAMERA.turn * turn  # after a turn to the right the same pixel looks further right
    inside = seen[0, 0] > 0
    assert torch.allclose(seen_from_there[0, 0][inside], expected[inside], atol=0.013)  # half a pixel at the border
    assert 0.05 < 1 - seen.mean() < 0.2  # about 6 of 75 degrees come into view


def test_not_turning_changes_nothing() -> None:
    latents = torch.randn(2, 3, 16, 16)
    same, seen = turned(CAMERA, latents, torch.zeros(2))
    assert torch.allclose(same, latents, atol=1e-5)
    assert seen.all()
