"""Does the world do what the player says: turns and displacements of the generated view, and walls that stop.

A turn on the spot moves every pixel by a homography that needs no depth, so the angle between two generated
frames is the one by which the first is best warped into the second. For a displacement the floor plan is
rendered along the commanded way, and the render that is most like the generated frame tells how far it came;
that holds for as long as the world is still the recorded one, so for a second or two after the context. Both
are also measured on the reference frames, as `*_reference`: the error of the ruler.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..rooms.camera import Camera, turned
from .cases import Case
from .metrics import luma
from .sets import environment

_TURNS = np.linspace(-1.8, 1.8, 73)  # of full speed, per frame
_SHARES = np.linspace(-0.5, 1.75, 46)  # of the commanded displacement
_DEPTHS = np.linspace(-0.8, 1.2, 41)  # metres ahead of where the wall stops the walk
_SETTLED = 6  # frames after contact from which a stopped view must stay
STOPPED = 0.1  # of the commanded displacement may leak through a wall


def turn_figures(case: Case, frames: np.ndarray) -> dict[str, float]:
    """For frames (M, H, W, 3) of a steady turn: its share of the command, the error of that, and the ruler's."""
    commanded = case.video.controls[case.first + 1 :, 2]
    figures: dict[str, float] = {}
    for name, shown in (("", frames), ("_reference", case.reference)):
        seen = [turn_between(Camera(), a, b) for a, b in zip(shown, shown[1:], strict=False)]
        ratio = float(np.sum(seen) / commanded.sum())
        figures |= {f"ratio{name}": ratio, f"error{name}": abs(ratio - 1)}
    return figures


def move_figures(case: Case, frames: np.ndarray) -> dict[str, float]:
    """For frames (M, H, W, 3) of a steady walk: how much of the commanded displacement the last one shows."""
    start, end = case.video.poses[case.first - 1], case.video.poses[-1]
    figures: dict[str, float] = {}
    for name, shown in (("", frames), ("_reference", case.reference)):
        ratio = registered(case, shown[-1], _SHARES, lambda share: start + share * (end - start))
        figures |= {f"ratio{name}": ratio, f"error{name}": abs(ratio - 1)}
    return figures


def wall_figures(case: Case, frames: np.ndarray) -> dict[str, float]:
    """For frames (M, H, W, 3) of walking into a wall: where the view comes to stand, and what leaks through.

    `offset` in metres from where the wall stops the walk; `leak` is how far the view goes on once it should
    stand, as a share of the command; `stopped` is 1 if that is below STOPPED.
    """
    poses = case.video.poses[case.first :]
    stop = poses[-1]
    contact = int(np.argmax(np.hypot(*(poses[:, :2] - stop[:2]).T) < 1e-3)) + _SETTLED
    ahead = np.array([np.cos(stop[2]), np.sin(stop[2]), 0.0])
    speed = Camera().step * float(case.video.controls[-1, 0])
    figures: dict[str, float] = {}
    for name, shown in (("", frames), ("_reference", case.reference)):
        near, last = (registered(case, shown[i], _DEPTHS, lambda d: stop + d * ahead) for i in (contact, -1))
        leak = abs(last - near) / (speed * (len(poses) - 1 - contact))
        figures |= {f"offset{name}": abs(last), f"leak{name}": leak, f"stopped{name}": float(leak < STOPPED)}
    return figures


def turn_between(camera: Camera, before: np.ndarray, after: np.ndarray) -> float:
    """The turn, in full-speed frames and clockwise, that best warps `before` into `after`, each (H, W, 3)."""
    source, target = (torch.from_numpy(luma(frame)) for frame in (before, after))
    turns = torch.from_numpy(_TURNS.astype(np.float32))
    warped, seen = turned(camera, source.expand(len(turns), 1, *source.shape), turns)
    error = ((warped - target).square() * seen).sum((1, 2, 3)) / seen.sum((1, 2, 3))
    return lowest(_TURNS, error.double().numpy())


def registered(case: Case, frame: np.ndarray, places: np.ndarray, pose_at: Callable[[float], np.ndarray]) -> float:
    """The place, among `places`, whose render looks most like `frame` (H, W, 3)."""
    env = environment(frame.shape[0])
    env.reset(seed=case.video.seed)
    errors = []
    for place in places:
        env.set_pose(pose_at(float(place)))
        errors.append(float(np.square(env.render_obs().astype(np.float32) - frame).mean()))
    return lowest(places, np.array(errors))


def lowest(places: Sequence[float] | np.ndarray, errors: np.ndarray) -> float:
    """Where evenly spaced `errors` are lowest, by a parabola through the lowest and its neighbours."""
    best = int(np.argmin(errors))
    if not 0 < best < len(errors) - 1:
        return float(places[best])
    left, middle, right = errors[best - 1 : best + 2]
    curvature = left - 2 * middle + right
    shift = 0.5 * (left - right) / curvature if curvature > 0 else 0.0
    return float(places[best] + shift * (places[1] - places[0]))
