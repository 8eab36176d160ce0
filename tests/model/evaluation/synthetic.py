"""Small videos without a renderer: a camera in a square room, frames that depend on the pose alone."""

import numpy as np

from model.evaluation.cases import Case, prepare
from model.evaluation.programs import controls_along
from model.evaluation.sets import FARTHEST, FrozenSet, Video
from model.evaluation.sight import reach_of
from model.rooms.camera import Camera
from model.rooms.world import Rooms

ROOM = np.array([[[0, 0], [8, 0]], [[8, 0], [8, 8]], [[8, 8], [0, 8]], [[0, 8], [0, 0]]], float)
SIZE = 128


def frames_at(poses: np.ndarray) -> np.ndarray:
    """(T, SIZE, SIZE, 3) uint8: smooth stripes whose phase and colour follow the pose."""
    grid = np.linspace(0, 4 * np.pi, SIZE)
    across = np.sin(grid[None, None, :] + 3 * poses[:, 2, None, None])
    down = np.sin(grid[None, :, None] + poses[:, 0, None, None])
    colour = np.sin(poses[:, 1, None] + np.arange(3))[:, None, None]
    return (127 + 60 * (across * down)[..., None] + 40 * colour).clip(0, 255).astype(np.uint8)


def there_and_back(num: int) -> np.ndarray:
    """(2 num + 1, 3) poses: ahead and turning a little, then the same way back."""
    steps = np.arange(num + 1)
    out = np.stack([2 + 0.1 * steps, np.full(num + 1, 4.0), 0.08 * steps], 1)
    return np.concatenate([out, out[-2::-1]])


def video_of(poses: np.ndarray, seed: int = 0) -> Video:
    controls = np.concatenate([np.zeros((1, 3), np.float32), controls_along(Camera(), poses)])
    return Video(
        seed, frames_at(poses), controls, poses, reach_of(Camera(), poses, ROOM, farthest=FARTHEST).astype(np.float32)
    )


def frozen(first: int, length: int, *, home: int | None = None) -> FrozenSet:
    return FrozenSet("synthetic", lambda _env, _rng, _number: [], first, length, 0, home)


def case_of(model: Rooms, poses: np.ndarray, *, first: int, home: int | None = None, seed: int = 0) -> Case:
    [case] = prepare(model, frozen(first, len(poses), home=home), [video_of(poses, seed)])
    return case
