import numpy as np
import pytest

from model.training.explore import explore
from model.training.rooms_env import RoomsEnv


@pytest.fixture(scope="module")
def env() -> RoomsEnv:
    return RoomsEnv(size=64)


def test_exploring_moves_smoothly_turns_and_comes_back(env: RoomsEnv) -> None:
    rooms, returns, turned, jerks = 0, 0, 0.0, []
    for seed in range(5):
        env.reset(seed=seed)
        poses, controls = [env.pose], []
        for control, _ in zip(explore(env, np.random.default_rng(seed)), range(240), strict=False):
            env.step(control)
            poses.append(env.pose)
            controls.append(control)
        path, moved = np.array(poses), np.abs(np.diff(controls, axis=0)).max()
        jerks.append(moved)
        turned += np.abs(np.diff(path[:, 2])).sum()
        rooms += np.ptp(path[:, :2], axis=0).max() > 4
        near = np.linalg.norm(path[:, None, :2] - path[None, :, :2], axis=2) < 0.5
        heading = np.abs((path[:, None, 2] - path[None, :, 2] + np.pi) % (2 * np.pi) - np.pi) < 0.4
        gap = np.subtract.outer(np.arange(len(path)), np.arange(len(path))) > 60
        returns += (near & heading & gap).any()
        assert np.abs(controls).max() <= 1
    assert rooms >= 2  # most walks leave a room
    assert returns >= 3  # most walks see a view again
    assert turned > 5 * np.pi
    assert max(jerks) < 1.45  # never from full speed ahead to full speed back at once


def test_the_seed_fixes_the_walk(env: RoomsEnv) -> None:
    walks = []
    for _ in range(2):
        env.reset(seed=9)
        steps = zip(explore(env, np.random.default_rng(1)), range(60), strict=False)
        walks.append([env.step(control)[4]["pose"] for control, _ in steps])
    assert np.array_equal(*walks)
