import numpy as np
import torch
from torch import Tensor

from model.rooms.camera import Camera, move
from model.rooms.depth import Depth, Reach
from model.training.depth import (
    BATCH,
    SOURCES,
    Views,
    depth_loss,
    draw_frames,
    draw_views,
    reach_loss,
)
from model.training.latents import Latents
from tests.model.training.episodes import data

CAMERA = Camera()


def numbered() -> Latents:
    """Every latent of frame t of episode e is 100 e + t."""
    made = data()
    number = np.add.outer(100 * np.arange(2), np.arange(60))
    return made._replace(latents=np.ones_like(made.latents) * number[:, :, None, None, None].astype(np.float16))


def some(views: Views, count: int = 4) -> Views:
    return Views(*(x[:count] for x in views))


def test_views_are_of_the_target_and_what_its_session_saw() -> None:
    made = numbered()
    views = draw_views(made, np.random.default_rng(0))
    found = [np.argwhere((made.poses == pose).all(-1))[0] for pose in views.pose.numpy()]
    e, t = np.array(found).T
    assert len(set(100 * e + t)) > BATCH / 3
    for mine, theirs in (
        (views.pose, made.poses[e, t]),
        (views.source_poses[:, 0], made.poses[e, t - 1]),
        (views.last_pose, made.poses[e, t - 2]),
        (views.controls, made.controls[e, t]),
        (views.last_controls, made.controls[e, t - 1]),
    ):
        assert np.array_equal(mine, theirs)
    assert views.valid[:, 0].all()
    assert np.array_equal(views.valid[:, 1], t >= SOURCES[1])
    carried = views.source_poses[:, 1].numpy()[t >= SOURCES[1]] - made.poses[e, t - SOURCES[1]][t >= SOURCES[1]]
    assert 0 < np.abs(carried).max() < 0.3
    ratio = views.source_depths[:, 0].numpy() / made.depths[e, t - 1]
    assert 0.005 < np.std(ratio) < 0.06
    assert abs(np.mean(ratio) - 1) < 0.02


def test_frames_come_with_their_depth() -> None:
    made = numbered()
    latents, depths = draw_frames(made, np.random.default_rng(0))
    number = latents.mean((1, 2, 3)).round().int().numpy()  # as noisy as they are
    assert len(set(number)) > BATCH / 3
    assert np.array_equal(depths, made.depths[number // 100, number % 100].astype(np.float32))
    noise = latents.std((1, 2, 3))
    assert 0.3 < (noise == 0).float().mean() < 0.7
    assert 0.2 < noise.max() < 0.35


def test_the_loss_of_depth_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    model = Depth(width=16)
    losses = depth_loss(model, *draw_frames(data(), np.random.default_rng(0)))
    assert 0.05 < losses["loss"] < 1
    losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def walked(share: float) -> Views:
    """Views of a session whose camera goes `share` of what is commanded."""
    made = data()
    poses = np.zeros_like(made.poses)
    commanded = torch.from_numpy(made.controls * np.float32([share, share, 1]))
    for t in range(1, poses.shape[1]):
        poses[:, t] = move(CAMERA, torch.from_numpy(poses[:, t - 1]), commanded[:, t])
    return some(draw_views(made._replace(poses=poses), np.random.default_rng(2)), 16)


class Credulous(Reach):
    """Believes every command."""

    def forward(self, ground: Tensor, controls: Tensor, last: Tensor) -> Tensor:
        assert ground.shape == (len(controls), 64, 64)
        assert last.shape == (len(controls), 5)
        return controls[:, :2] + 0 * super().forward(ground, controls, last)


def test_the_loss_of_reach_is_the_distance_to_where_the_camera_went() -> None:
    free = reach_loss(Credulous(), walked(1.0), CAMERA)
    assert free["loss"] < 1e-4
    assert free["commanded"] == 0
    views = walked(0.5)
    stopped = reach_loss(Credulous(), views, CAMERA)
    expected = views.controls[:, :2].norm(dim=1).mean() / 2
    torch.testing.assert_close(stopped["loss"].detach(), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(stopped["commanded"], stopped["stopped"], atol=1e-4, rtol=1e-4)


def test_reach_learns_to_stop() -> None:
    torch.manual_seed(0)
    model, views = Reach(), walked(0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    errors = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = reach_loss(model, views, CAMERA)["loss"]
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    assert errors[-1] < 0.6 * errors[0]
