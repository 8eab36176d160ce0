"""The frozen sets: videos of floor plans that no training saw, rendered once and known by their hashes.

Some sets are of Doom, to see whether anything is tuned to `rooms`. A level has one plan: only the walks are held out.

A video is one safetensors file, `<set>/<number>.safetensors`:

    frames    uint8   (T, H, W, 3)  RGB
    controls  float32 (T, A)        controls[t] led from frames[t - 1] to frames[t]; controls[0] is zero
    poses     float64 (T, 3)        x, y in metres and heading in radians, counter-clockwise
    reach     float32 (T, 64)       metres to the wall along each ray of `sight`

with `set`, `seed`, `format` ("rewander-evaluation-1") and `farthest`, where rays end, as metadata. `hashes.json` beside
this file has digests of the frames. Another graphics driver may round pixels otherwise: then figures are of other
frames by a hair, and the report says so.
"""

import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from ..rooms.camera import Camera
from .plans import (
    APPROACH,
    Plan,
    exploring,
    into_wall,
    moving,
    out_and_home,
    retraced,
    spin,
    there_and_back,
    there_and_mirrored,
    triangle,
    turning,
)
from .programs import NoPathError
from .sight import Views, reach_of

if TYPE_CHECKING:
    from ..training.doom_env import DoomEnv
    from ..training.rooms_env import RoomsEnv

FORMAT = "rewander-evaluation-1"
FARTHEST = 12.0  # metres at which rays end in `rooms`, and in files that do not tell
FARTHEST_DOOM = 48.0  # the deathmatch hall is 47 m across
FIRST_SEED = 10_000_000  # training takes seeds below
_SEEDS_PER_SET = 100_000
_SEEDS_PER_TRY = 1_000
_NUM_TRIES = 50
_ARRAYS = ("frames", "controls", "poses", "reach")
_HASHES = Path(__file__).parent / "hashes.json"


@dataclass(frozen=True, slots=True)
class FrozenSet:
    """Videos of one kind: `first` frames of context, then the frames that a model is to generate."""

    name: str
    plan: Plan
    first: int
    length: int
    first_seed: int
    home: int | None = None  # the context frame with the last frame's pose
    level: str = ""  # of Doom; none: the floor plans of `rooms`
    farthest: float = FARTHEST  # metres: a wall beyond is not seen


@dataclass(frozen=True, slots=True)
class Video:
    seed: int
    frames: np.ndarray  # (T, H, W, 3) uint8
    controls: np.ndarray  # (T, A) float32
    poses: np.ndarray  # (T, 3) float64
    reach: np.ndarray  # (T, K) float32
    farthest: float = FARTHEST

    @property
    def views(self) -> Views:
        return Views(self.poses, self.reach)

    @property
    def digest(self) -> str:
        """SHA-256 of the frames, its first 16 digits."""
        return hashlib.sha256(self.frames.tobytes()).hexdigest()[:16]


def load_or_render(frozen: FrozenSet, folder: Path, *, videos: int, size: int = 128) -> Iterator[Video]:
    """The first `videos` videos of a set, from `folder` where they are there, else rendered into it.

    Those that an older version rendered, which looked less far, are rendered again.
    """
    for number in range(videos):
        path = folder / frozen.name / f"{number:03d}.safetensors"
        video = load(path) if path.exists() else None
        if video is None or video.farthest != frozen.farthest:
            save(render(frozen, number, size=size), path, name=frozen.name)
            video = load(path)
        yield video


def load(path: Path) -> Video:
    """Read one video; raises ValueError if the file is not one."""
    with safe_open(path, "numpy") as file:
        about = file.metadata() or {}
        if about.get("format") != FORMAT:
            raise ValueError(f"{path}: expected format {FORMAT!r}, got {about.get('format')!r}")
        arrays = {name: file.get_tensor(name) for name in _ARRAYS}
        return Video(int(about["seed"]), **arrays, farthest=float(about.get("farthest", FARTHEST)))


def save(video: Video, path: Path, *, name: str) -> None:
    """Write one video of the set `name`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_suffix(f".{os.getpid()}")
    arrays = {part: np.ascontiguousarray(getattr(video, part)) for part in _ARRAYS}
    about = {"set": name, "seed": str(video.seed), "format": FORMAT, "farthest": str(video.farthest)}
    save_file(arrays, partial_path, about)
    partial_path.rename(path)


def render(frozen: FrozenSet, number: int, *, size: int = 128) -> Video:
    """Play a set's plan in its `number`-th floor plan, or in the next one of its row in which it fits."""
    env: Any = doom(frozen.level, size) if frozen.level else environment(size)
    for attempt in range(_NUM_TRIES):
        seed = frozen.first_seed + number + attempt * _SEEDS_PER_TRY
        env.reset(seed=seed)
        try:
            controls = frozen.plan(env, np.random.default_rng((seed, 1)), number)
        except NoPathError:
            continue
        return _play(env, itertools.islice(controls, frozen.length - 1), seed, farthest=frozen.farthest)
    raise NoPathError(f"{frozen.name}: expected a path in one of {_NUM_TRIES} floor plans, found none")


def can_render(frozen: FrozenSet, *, find: Callable[[str], object] = find_spec) -> bool:
    """Whether the engine of its world is installed."""
    return not frozen.level or find("vizdoom") is not None


def known_hashes() -> dict[str, list[str]]:
    """Published digests, by set and number."""
    hashes: dict[str, list[str]] = json.loads(_HASHES.read_text())
    return hashes


def are_known(frozen: FrozenSet, videos: Iterable[Video], *, first: int = 0) -> list[bool]:
    """Whether each of a set's videos from number `first` on is, bit for bit, the published one."""
    published = known_hashes().get(frozen.name, [])
    return [i < len(published) and video.digest == published[i] for i, video in enumerate(videos, first)]


@cache
def environment(size: int) -> "RoomsEnv":
    """The one renderer of this process for frames of `size` x `size` pixels."""
    from ..training.rooms_env import RoomsEnv  # opens a GL context

    return RoomsEnv(size)


@cache
def doom(level: str, size: int) -> "DoomEnv":
    """The one engine of this process for a level."""
    from ..training.doom_env import DoomEnv  # starts another process

    return DoomEnv(level, size)


def publish(folder: Path, *, videos: dict[str, int]) -> None:
    """Write into hashes.json the first `videos` of each set: what the sets are, from now on."""
    digests = known_hashes() | {
        name: [video.digest for video in load_or_render(SETS[name], folder, videos=n)] for name, n in videos.items()
    }
    _HASHES.write_text(json.dumps(digests, indent=1) + "\n")


def _play(env: "RoomsEnv | DoomEnv", controls: Iterable[np.ndarray], seed: int, *, farthest: float) -> Video:
    frames, poses, done = [env.render_obs()], [env.pose], [np.zeros(3, np.float32)]
    for control in controls:
        frames.append(env.step(control)[0])
        poses.append(env.pose)
        done.append(np.asarray(control, np.float32))
    reach = reach_of(Camera(), np.stack(poses), env.walls, farthest=farthest).astype(np.float32)
    return Video(seed, np.stack(frames), np.stack(done), np.stack(poses), reach, farthest)


def _unnumbered(plan: Callable[..., Iterable[np.ndarray]]) -> Plan:
    return lambda env, rng, _number: plan(env, rng)


def _there_and_back(out: int) -> tuple[Plan, int, int]:
    return _unnumbered(partial(there_and_back, out=out)), out + 1, 2 * out + 1


def _frozen_sets() -> Iterator[FrozenSet]:
    """Every set with its own row of seeds."""
    right, explore = math.pi / 2, _unnumbered(exploring)
    rows: list[tuple[str, tuple[Plan, int, int], int | None]] = [
        ("aba-short", _there_and_back(40), 0),
        ("aba-mid", _there_and_back(80), 0),
        ("aba-long", _there_and_back(160), 0),
        ("spin-90", (_unnumbered(partial(spin, angle=right, frames=30, back=True)), APPROACH + 30, APPROACH + 60), 24),
        ("spin-360", (_unnumbered(partial(spin, angle=4 * right, frames=72, back=False)), APPROACH, APPROACH + 72), 24),
        ("loop-aba", (_unnumbered(partial(out_and_home, out=96, home=168)), 97, 265), 0),
        ("loop-abca", (_unnumbered(partial(triangle, out=160, home=160)), 161, 321), 0),
        ("worldmem", (explore, 600, 700), None),
        ("forward", (explore, 128, 192), None),
        ("drift", (explore, 64, 64 + 448), None),
        ("mirror", (partial(there_and_mirrored, frames=24), APPROACH, APPROACH + 48), 24),
        ("turning", (partial(turning, frames=24), APPROACH, APPROACH + 24), None),
        ("moving", (partial(moving, frames=16), APPROACH, APPROACH + 16), None),
        ("into-wall", (_unnumbered(partial(into_wall, frames=40)), APPROACH, APPROACH + 40), None),
        ("walk", (explore, 600, 1800), None),
    ]
    for i, (name, (plan, first, length), home) in enumerate(rows, 1):
        yield FrozenSet(name, plan, first, length, FIRST_SEED + i * _SEEDS_PER_SET, home)
    for i, level in enumerate(("my-way-home", "deathmatch"), len(rows) + 1):
        seed = FIRST_SEED + i * _SEEDS_PER_SET
        yield FrozenSet(f"walk-doom-{level}", explore, 600, 1800, seed, level=level, farthest=FARTHEST_DOOM)
    plan, first, length = _there_and_back(152)
    yield FrozenSet("retrace", plan, first, length, FIRST_SEED + (len(rows) + 3) * _SEEDS_PER_SET, 0)
    there_and_home = _unnumbered(partial(retraced, out=80))
    doom: list[tuple[str, Plan, int, int, int | None]] = [
        ("forward-doom-my-way-home", explore, 128, 192, None),
        ("aba-doom-my-way-home", there_and_home, 81, 161, 0),
    ]
    for i, (name, plan, first, length, home) in enumerate(doom):
        seed = FIRST_SEED + (len(rows) + 4 + 2 * i) * _SEEDS_PER_SET  # the row between is that of long play
        yield FrozenSet(name, plan, first, length, seed, home, level="my-way-home", farthest=FARTHEST_DOOM)


SETS = {frozen.name: frozen for frozen in _frozen_sets()}
