"""The Gymnasium environment against the real server."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from client_demo.client import Frame
from client_demo.gym_env import WorldEnv


def brightness(frame: Frame) -> float:
    return float(frame.pixels.mean()) / 255


def test_the_environment_is_one(url: str) -> None:
    env = WorldEnv(url, reward=brightness)
    check_env(env, skip_render_check=True, skip_close_check=True)
    env.close()


def test_a_step_shows_its_action_and_a_reset_a_new_world(url: str) -> None:
    env = WorldEnv(url, reward=brightness)
    assert env.action_space.shape == (2,)
    first, _ = env.reset(seed=3)
    seqs = []
    for _ in range(5):
        observation, reward, terminated, truncated, info = env.step(np.array([1.0, 0.0], np.float32))
        seqs.append(info["receipt"]["applied_seq"])
        assert reward == pytest.approx(observation.mean() / 255)
        assert not terminated and not truncated
    assert seqs == sorted(set(seqs))
    assert np.abs(first.astype(int) - observation).mean() > 20
    again, _ = env.reset(seed=3)
    assert np.abs(first.astype(int) - again).mean() < 20
    env.close()
