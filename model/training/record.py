"""Record episodes of any Gymnasium environment with RGB frames, in parallel, resumable.

One episode is one safetensors file, `<seed>.safetensors`:

    frames    uint8   (T, H, W, 3)  RGB
    controls  float32 (T, A)        controls[t] led from frames[t - 1] to frames[t]; controls[0] is zero
    poses     float32 (T, 3)        x, y in metres and heading in radians, counter-clockwise; NaN where unknown
    depths    float16 (T, H/2, W/2) 1 / distance along the view, in 1/m; absent where the environment does not tell

with `env`, `seed` and `format` ("rewander-episode-2") as metadata. The seed fixes plan and policy. An environment
tells poses and depths as `info["pose"]` and `info["depth"]`, as `rooms` and the levels of Doom do.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

FORMAT = "rewander-episode-2"
ROOMS = "rooms"
DOOM = "doom-"  # and a level


class EpisodeError(ValueError):
    """A file that is not an episode, or not one that training can use; says what was expected."""


@dataclass(frozen=True, slots=True)
class Episode:
    frames: np.ndarray
    controls: np.ndarray
    poses: np.ndarray
    depths: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """What to record: `length` frames of `size` x `size` pixels for each seed, into `folder`."""

    folder: Path
    env: str = ROOMS
    length: int = 384
    size: int = 128

    def path(self, seed: int) -> Path:
        return self.folder / f"{seed:08d}.safetensors"


def record(recording: Recording, *, seeds: range, workers: int) -> Iterator[Path]:
    """Record the episodes of `seeds` that are not there yet; yields each path when it is complete."""
    recording.folder.mkdir(parents=True, exist_ok=True)
    missing = [seed for seed in seeds if not recording.path(seed).exists()]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(record_episode, recording, seed) for seed in missing]):
            yield done.result()


def record_episode(recording: Recording, seed: int) -> Path:
    episode = rollout(
        _environment(recording.env, recording.size), length=recording.length, size=recording.size, seed=seed
    )
    path = recording.path(seed)
    partial = path.with_suffix(f".{os.getpid()}")
    arrays = {"frames": episode.frames, "controls": episode.controls, "poses": episode.poses}
    arrays |= {} if episode.depths is None else {"depths": episode.depths}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}  # or it is saved transposed
    save_file(arrays, partial, {"env": recording.env, "seed": str(seed), "format": FORMAT})
    partial.rename(path)
    return path


def rollout(env: gymnasium.Env[Any, Any], *, length: int, size: int, seed: int) -> Episode:
    """Let the policy for `env` act for `length` frames, starting over where an episode ends early."""
    from .explore import control_size, policy_for

    rng = np.random.default_rng(seed)
    obs, info = env.reset(seed=seed)
    policy = policy_for(env, rng)
    frames = [_frame(env, obs, size)]
    controls = [np.zeros(control_size(env.action_space), np.float32)]
    poses, depths = [_pose(info)], [info.get("depth")]
    for control in policy:
        obs, _, terminated, truncated, info = env.step(_action(env.action_space, control))
        if terminated or truncated:
            break
        frames.append(_frame(env, obs, size))
        controls.append(control)
        poses.append(_pose(info))
        depths.append(info.get("depth"))
        if len(frames) == length:
            break
    known = [np.asarray(depth, np.float16) for depth in depths if depth is not None]
    return Episode(
        np.stack(frames), np.stack(controls), np.stack(poses), np.stack(known) if len(known) == len(frames) else None
    )


def load_episode(path: Path) -> Episode:
    """Read one episode; raises EpisodeError if the file is none, or was recorded by an older version."""
    with safe_open(path, "numpy") as file:
        found = (file.metadata() or {}).get("format")
        if found != FORMAT:
            raise EpisodeError(f"{path}: expected format {FORMAT!r}, got {found!r}; delete it and record it again")
        depths = file.get_tensor("depths") if "depths" in file.keys() else None
        return Episode(file.get_tensor("frames"), file.get_tensor("controls"), file.get_tensor("poses"), depths)


@cache
def _environment(name: str, size: int) -> gymnasium.Env[Any, Any]:
    if name == ROOMS:
        from .rooms_env import RoomsEnv

        return RoomsEnv(size, depth=True)
    if name.startswith(DOOM):
        from .doom_env import DoomEnv

        return DoomEnv(name.removeprefix(DOOM), size, depth=True)
    return gymnasium.make(name, render_mode="rgb_array")


def _action(space: gymnasium.Space[Any], control: np.ndarray) -> Any:
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(np.argmax(control))
    assert isinstance(space, gymnasium.spaces.Box)
    low, high = np.maximum(space.low, -1e3), np.minimum(space.high, 1e3)
    return (low + (control + 1) / 2 * (high - low)).astype(space.dtype)


def _frame(env: gymnasium.Env[Any, Any], obs: Any, size: int) -> np.ndarray:
    frame = obs if getattr(obs, "ndim", 0) == 3 and obs.shape[2] == 3 and obs.dtype == np.uint8 else env.render()
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(
            f"expected RGB frames of shape (H, W, 3) from the environment, got {getattr(frame, 'shape', frame)}"
        )
    if frame.shape[:2] == (size, size):
        return frame
    return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BOX))


def _pose(info: dict[str, Any]) -> np.ndarray:
    return np.asarray(info.get("pose", (np.nan,) * 3), np.float32)
