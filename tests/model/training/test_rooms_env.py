import numpy as np
import pytest

from model.training.rooms_env import DEGREES_PER_FRAME, METRES_PER_FRAME, RoomsEnv

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
