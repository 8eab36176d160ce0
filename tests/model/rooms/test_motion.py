import torch

from model.rooms.camera import Camera, rays
from model.rooms.motion import Motion, see_from
from tests.model.rooms.small import networks

CAMERA = Camera()


def wall(camera_x: float, camera_z: float, heading: float, size: int = 96) -> torch.Tensor:
    """A smooth pattern on the plane 3 metres ahead of the origin, rendered exactly: (1, 3, size, size)."""
    offset = ((torch.arange(size) + 0.5) / size * 2 - 1) * CAMERA.edge
    x, y = offset[None, :].expand(size, size), offset[:, None].expand(size, size)
    cos, sin = torch.tensor(heading).cos(), torch.tensor(heading).sin()
    direction_x, direction_z = x * cos + sin, cos - x * sin  # heading is to the right here
    reach = (3 - camera_z) / direction_z
    at_x, at_y = camera_x + direction_x * reach, y * reach
    return torch.stack([(2 * at_x).sin(), (2 * at_y).cos(), (at_x + at_y).sin()])[None]


def test_a_wall_is_seen_from_the_next_camera() -> None:
    ahead, right, turn = 1.0, 0.5, 0.8
    angle = CAMERA.turn * turn
    step_x = CAMERA.step * (ahead * torch.tensor(angle).sin() + right * torch.tensor(angle).cos())
    step_z = CAMERA.step * (ahead * torch.tensor(angle).cos() - right * torch.tensor(angle).sin())
    truth = wall(float(step_x), float(step_z), angle)
    offset = ((torch.arange(96) + 0.5) / 96 * 2 - 1) * CAMERA.edge
    away = torch.tensor(angle).cos() - offset * torch.tensor(angle).sin()
    inverse_depth = (away / (3 - step_z)).expand(96, 96)[None]
    seen, inside = see_from(CAMERA, wall(0, 0, 0), torch.tensor([turn]), torch.tensor([[ahead, right]]), inverse_depth)
    error = ((seen - truth).abs() * inside).max()
    assert error < 0.04  # bilinear
    copied = (wall(0, 0, 0) - truth).abs().max()
    assert copied > 10 * error


def test_depth_decides_how_far_things_move() -> None:
    image = rays(CAMERA, 64)[..., :1].permute(2, 0, 1)[None].repeat(1, 3, 1, 1)
    step = (torch.zeros(1), torch.tensor([[0.0, 1.0]]))
    near, _ = see_from(CAMERA, image, *step, torch.full((1, 16, 16), 1.0))
    far, _ = see_from(CAMERA, image, *step, torch.full((1, 16, 16), 0.1))
    assert (near - image).abs().mean() > 5 * (far - image).abs().mean() > 0


def test_displacement_never_exceeds_the_command() -> None:
    motion = networks().motion
    controls = torch.randn(64, 3).clamp(-1, 1)
    features = motion.features(CAMERA, torch.randn(64, 16, 16, 16), controls[:, 2])
    moved = motion.displacement(features, controls, torch.randn(64, 5))
    assert (moved.norm(dim=1) <= controls[:, :2].norm(dim=1) + 1e-5).all()
    assert moved.std() > 0


def test_preview_takes_shape_and_gradient_free_batches() -> None:
    made = networks()
    latents, controls, last = torch.randn(3, 16, 16, 16), torch.randn(3, 3).clamp(-1, 1), torch.zeros(3, 5)
    together = made.motion.preview(CAMERA, made.vae, latents, controls, last)
    assert together.base.shape == latents.shape
    assert together.seen.shape == (3, 1, 16, 16)
    alone = made.motion.preview(CAMERA, made.vae, latents[1:2], controls[1:2], last[1:2])
    torch.testing.assert_close(together.base[1:2], alone.base, atol=1e-4, rtol=1e-4)


def test_inverse_depth_is_positive_and_bounded() -> None:
    motion = Motion(width=16)
    features = motion.features(CAMERA, 10 * torch.randn(2, 16, 16, 16), torch.zeros(2))
    depth = motion.inverse_depth(features, torch.zeros(2, 2))
    assert depth.shape == (2, 64, 64)
    assert ((depth > 0) & (depth < 3)).all()
