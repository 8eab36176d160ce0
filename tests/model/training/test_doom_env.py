"""The real engine: turns and steps as in `rooms`, and depth and pose that explain what one frame shows of the last."""

import itertools
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.rooms.camera import Camera, move, relative
from model.rooms.geometry import look_back
from model.training.record import Recording, load_episode, record_episode

pytest.importorskip("vizdoom")

from model.training.doom_env import LEVELS, DoomEnv  # noqa: E402

SIZE = 64
CONTROLS = np.array([(0, 0, -1), (0, 0, 1), (1, 0, 0), (-0.5, 0, 0), (0, 0.8, 0), (0.6, -0.3, 0.5)])


@pytest.fixture(scope="module", params=LEVELS)
def env(request: pytest.FixtureRequest) -> Iterator[DoomEnv]:
    env = DoomEnv(request.param, SIZE, depth=True)
    yield env
    env.close()


def walk(env: DoomEnv, control: np.ndarray, *, seed: int) -> list[np.ndarray]:
    """The poses before and after two frames of the same control."""
    env.reset(seed=seed)
    poses = [env.pose]
    for _ in range(2):
        env.step(control)
        poses.append(env.pose)
    return poses


@pytest.mark.parametrize("control", CONTROLS, ids=str)
def test_controls_lead_where_those_of_rooms_lead(env: DoomEnv, control: np.ndarray) -> None:
    """To the left is counter-clockwise, as long as nothing is in the way."""
    misses = []
    for seed in range(4):
        poses = walk(env, control, seed=seed)
        for before, after in itertools.pairwise(poses):
            expected = move(Camera(), torch.from_numpy(before), torch.from_numpy(control)).numpy()
            assert after[2] == pytest.approx(expected[2], abs=1e-4)
            misses.append(np.hypot(*(after - expected)[:2]))
    assert np.median(misses) < 0.003


def test_a_wall_stops_what_runs_into_it_and_a_command_what_moves(env: DoomEnv) -> None:
    env.reset(seed=0)
    for _ in range(300):
        env.step(np.array([1.0, 0.0, 0.0]))
    held = env.pose
    env.step(np.array([1.0, 0.0, 0.0]))
    assert np.hypot(*(env.pose - held)[:2]) < 0.02
    env.step(np.array([-1.0, 0.0, 0.0]))
    moving = env.pose
    env.step(np.zeros(3))
    assert np.hypot(*(env.pose - moving)[:2]) < 0.01


@pytest.mark.parametrize("control", CONTROLS, ids=str)
def test_depth_and_pose_carry_one_frame_onto_another(env: DoomEnv, control: np.ndarray) -> None:
    carried, still = [], []
    for seed in range(3):
        first, told = env.reset(seed=seed)
        for _ in range(4):
            second, *_, info = env.step(control)
        poses = [torch.from_numpy(each["pose"])[None] for each in (told, info)]
        depth = torch.from_numpy(info["depth"].astype(np.float64))[None, None]
        depth = F.interpolate(depth, size=(SIZE, SIZE), mode="bilinear")[:, 0]
        where, _, inside = look_back(relative(*poses)[:, None], depth, SIZE, Camera().edge)
        one, two = (torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].double() for frame in (first, second))
        seen = F.grid_sample(one, where[:, 0], padding_mode="border", align_corners=False)
        assert inside.double().mean() > 0.4
        carried.append(((seen - two).abs() * inside).sum() / inside.sum())
        still.append(((one - two).abs() * inside).sum() / inside.sum())
    assert sum(carried) < 0.5 * sum(still)


def test_a_seed_is_a_place_and_its_way(env: DoomEnv) -> None:
    frames = []
    for seed in (3, 4, 3):
        frame, info = env.reset(seed=seed)
        after, *_ = env.step(np.array([0.3, 0.2, 0.5]))
        frames.append((frame, after, info["depth"]))
    for a, b, c in zip(*frames, strict=True):
        assert np.array_equal(a, c)
        assert not np.array_equal(a, b)


def test_goals_can_be_walked_to(env: DoomEnv) -> None:
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    goals = np.stack([env.random_place(rng) for _ in range(20)])
    assert np.ptp(goals, axis=0).min() > 10
    turns = [len(env.way_to(goal)) for goal in goals]
    assert max(turns) >= 2
    assert (np.linalg.norm(goals[:, None] - env.walls.reshape(-1, 2), axis=2) > 0.4).all()


def test_other_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a level of my-way-home, deathmatch, got 'e1m1'"):
        DoomEnv("e1m1")


def test_the_engine_leaves_nothing_where_it_is_started(tmp_path: Path) -> None:
    with chdir(tmp_path):
        env = DoomEnv("deathmatch", SIZE)
        env.reset(seed=1)
        env.close()
        assert list(tmp_path.iterdir()) == []


def test_an_episode_is_recorded_with_pose_and_depth(tmp_path: Path) -> None:
    episode = load_episode(record_episode(Recording(tmp_path, env="doom-my-way-home", length=30, size=32), 2))
    assert episode.frames.shape == (30, 32, 32, 3)
    assert episode.controls.shape == (30, 3)
    assert episode.depths is not None
    assert episode.depths.shape == (30, 16, 16)
    assert np.isfinite(episode.poses).all()
    turned = -Camera().turn * np.cumsum(episode.controls[:, 2])
    np.testing.assert_allclose(episode.poses[:, 2] - episode.poses[0, 2], turned, atol=2e-3)
