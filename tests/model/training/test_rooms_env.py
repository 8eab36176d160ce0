import numpy as np
import pytest

from model.rooms.camera import Camera
from model.training.rooms_env import DEGREES_PER_FRAME, METRES_PER_FRAME, NEAREST, RoomsEnv

# MiniWorld prints that the driver has fewer samples than it asks for; one environment serves all tests.


@pytest.fixture(scope="module")
def env() -> RoomsEnv:
    return RoomsEnv(size=64)


def test_a_seed_is_a_floor_plan(env: RoomsEnv) -> None:
    first, _ = env.reset(seed=3)
    first = first.copy()
    plan, other = env.cells.keys(), env.reset(seed=4)[0]
    assert not np.array_equal(first, other)
    again, _ = env.reset(seed=3)
    assert np.array_equal(first, again)
    assert env.cells.keys() == plan


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_plans_have_three_to_nine_connected_rooms(env: RoomsEnv, seed: int) -> None:
    env.reset(seed=seed)
    assert 3 <= len(env.cells) <= 9
    reached, queue = set(), [next(iter(env.cells))]
    while queue:
        cell = queue.pop()
        reached.add(cell)
        queue += [b for a, b in env.doors if a == cell and b not in reached]
    assert reached == set(env.cells)


def test_controls_move_as_documented(env: RoomsEnv) -> None:
    for seed in range(20):
        env.reset(seed=seed)
        x, y, heading = env.pose
        env.step(np.array([1.0, 0.0, 0.0]))
        moved = env.pose[:2] - (x, y)
        if np.hypot(*moved) > 0.99 * METRES_PER_FRAME:
            break
    np.testing.assert_allclose(moved, METRES_PER_FRAME * np.array([np.cos(heading), np.sin(heading)]), atol=1e-9)
    env.step(np.array([0.0, 0.0, 1.0]))
    assert env.pose[2] == pytest.approx(heading - np.radians(DEGREES_PER_FRAME))  # to the right is clockwise
    with_excess = env.pose[2]
    env.step(np.array([0.0, 0.0, -9.0]))
    assert env.pose[2] == pytest.approx(with_excess + np.radians(DEGREES_PER_FRAME))


def test_walls_stop_what_runs_into_them(env: RoomsEnv) -> None:
    env.reset(seed=1)
    for _ in range(200):
        env.step(np.array([1.0, 0.0, 0.0]))
    held = env.pose
    env.step(np.array([1.0, 0.0, 0.0]))
    assert np.hypot(*(env.pose - held)[:2]) < METRES_PER_FRAME / 2


def test_teleporting_renders_the_same_view(env: RoomsEnv) -> None:
    frame, _ = env.reset(seed=2)
    frame, pose = frame.copy(), env.pose
    for _ in range(5):
        env.step(np.array([0.5, 0.2, 1.0]))
    env.set_pose(pose)
    assert np.array_equal(env.render_obs(), frame)


@pytest.fixture(scope="module")
def deep() -> RoomsEnv:
    return RoomsEnv(size=64, depth=True)


def test_depth_comes_if_it_is_asked_for(env: RoomsEnv, deep: RoomsEnv) -> None:
    assert "depth" not in env.reset(seed=1)[1]
    first = deep.reset(seed=1)[1]["depth"]
    assert first.shape == (32, 32)
    assert first.dtype == np.float16
    assert ((first > 0.01) & (first <= 1 / NEAREST)).all()
    turned = deep.step(np.array([0.0, 0.0, 1.0]))[4]["depth"]
    assert np.abs(turned - first).max() > 0.01


def test_the_floor_is_as_far_as_the_camera_is_high(deep: RoomsEnv) -> None:
    """It is the farthest that a pixel below the horizon may show. Drivers sample depth up to half a pixel off."""
    down = Camera().edge * (np.arange(24, 32) + 0.5 - 16) / 16
    lowest = np.stack([deep.reset(seed=seed)[1]["depth"][24:] for seed in range(12)]).min((0, 2))
    np.testing.assert_allclose(lowest, down / Camera().height, rtol=0.03)


def test_what_is_ahead_comes_as_much_nearer_as_the_camera_goes(deep: RoomsEnv) -> None:
    went = []
    for seed in range(12):
        before = deep.reset(seed=seed)[1]["depth"][15:17, 15:17].astype(float).mean()
        place = deep.pose
        after = deep.step(np.array([1.0, 0.0, 0.0]))[4]["depth"][15:17, 15:17].astype(float).mean()
        if np.hypot(*(deep.pose - place)[:2]) > 0.99 * METRES_PER_FRAME:
            went.append(1 / before - 1 / after)
    assert len(went) >= 5
    assert np.median(went) == pytest.approx(METRES_PER_FRAME, abs=0.01)


def test_depth_is_of_the_frame_that_was_rendered_last(deep: RoomsEnv) -> None:
    first, pose = deep.reset(seed=5)[1]["depth"], deep.pose
    deep.set_pose(pose + (0, 0, 1.0))
    deep.render_obs()
    assert not np.array_equal(deep.inverse_depth(), first)
    deep.set_pose(pose)
    deep.render_obs()
    assert np.array_equal(deep.inverse_depth(), first)
