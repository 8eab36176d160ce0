from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from model.training.explore import control_size, sticky_random
from model.training.record import EpisodeError, Recording, load_episode, record, record_episode


def test_an_episode_is_what_the_format_says(tmp_path: Path) -> None:
    episode = load_episode(record_episode(Recording(tmp_path, length=12, size=64), 5))
    assert episode.frames.shape == (12, 64, 64, 3)
    assert episode.frames.dtype == np.uint8
    assert episode.controls.shape == (12, 3)
    assert not episode.controls[0].any()
    assert np.abs(episode.controls).max() <= 1
    assert np.isfinite(episode.poses).all()
    assert len({frame.tobytes() for frame in episode.frames}) > 1
    assert episode.depths is not None
    assert episode.depths.shape == (12, 32, 32)
    assert episode.depths.dtype == np.float16
    assert (episode.depths > 0).all()
    assert len({depth.tobytes() for depth in episode.depths}) > 1


class Plain(gymnasium.Env[np.ndarray, int]):
    """Shows how often it was asked, and tells neither pose nor depth."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, render_mode: str) -> None:
        self.render_mode, self.time = render_mode, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, Any]:
        super().reset(seed=seed, options=options)
        self.time = 0
        return np.full((16, 16, 3), self.time, np.uint8), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, Any]:
        self.time += action
        return np.full((16, 16, 3), self.time, np.uint8), 0.0, False, False, {}


def test_an_environment_without_depth_records_none(tmp_path: Path) -> None:
    gymnasium.register("rewander/Plain-v0", Plain, disable_env_checker=True)
    path = record_episode(Recording(tmp_path, env="rewander/Plain-v0", length=9, size=16), 1)
    with safe_open(path, "numpy") as file:
        assert set(file.keys()) == {"frames", "controls", "poses"}
    episode = load_episode(path)
    assert episode.depths is None
    assert np.isnan(episode.poses).all()
    assert np.array_equal(episode.frames[1:, 0, 0, 0], np.cumsum(episode.controls[1:].argmax(1)))


class Sloped(Plain):
    """Tells a depth that is not the same from left to right as from top to bottom."""

    depth = np.arange(12.0).reshape(4, 3).T  # not contiguous

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, Any]:
        return super().reset(seed=seed, options=options)[0], {"depth": self.depth}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, Any]:
        return *super().step(action)[:4], {"depth": self.depth}


def test_depth_is_kept_as_it_was_told(tmp_path: Path) -> None:
    gymnasium.register("rewander/Sloped-v0", Sloped, disable_env_checker=True)
    episode = load_episode(record_episode(Recording(tmp_path, env="rewander/Sloped-v0", length=3, size=16), 1))
    assert np.array_equal(episode.depths, np.stack([Sloped.depth] * 3))


def test_seeds_fix_episodes_and_recording_resumes(tmp_path: Path) -> None:
    one, two = Recording(tmp_path / "a", length=6, size=64), Recording(tmp_path / "b", length=6, size=64)
    for recording in (one, two):
        recording.folder.mkdir()
        record_episode(recording, 7)
    first, second = load_episode(one.path(7)), load_episode(two.path(7))
    assert np.array_equal(first.frames, second.frames)
    assert np.array_equal(first.controls, second.controls)
    marked = one.path(7).stat().st_mtime_ns
    assert list(record(one, seeds=range(7, 8), workers=1)) == []
    assert one.path(7).stat().st_mtime_ns == marked


@pytest.mark.parametrize("found", [None, "rewander-episode-1"])
def test_other_files_and_older_ones_are_refused(tmp_path: Path, found: str | None) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"frames": np.zeros(1)}, path, {"format": found} if found else None)
    with pytest.raises(EpisodeError, match=f"expected format 'rewander-episode-2', got {found!r}; delete it"):
        load_episode(path)


def test_sticky_random_stays_in_range_for_any_space() -> None:
    rng = np.random.default_rng(0)
    box, choice = gymnasium.spaces.Box(-2, 3, (4,)), gymnasium.spaces.Discrete(5)
    for space, size in ((box, 4), (choice, 5)):
        controls = np.stack([control for control, _ in zip(sticky_random(space, rng), range(200), strict=False)])
        assert controls.shape == (200, size)
        assert np.abs(controls).max() <= 1
        changes = (np.diff(controls, axis=0) != 0).any(1).sum()
        assert 5 < changes < 100
    with pytest.raises(ValueError, match="expected a Discrete or a one-dimensional Box"):
        control_size(gymnasium.spaces.MultiBinary(3))
