"""A frozen video as a model meets it: encoded, with the reference that its frames are compared to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..rooms.camera import Camera
from ..rooms.world import Rooms
from ..world_model import Section, WorldModel
from .reckon import from_start, reckoned
from .rollout import Recall, Record
from .sets import FrozenSet, Video
from .sight import Split, split_views

Poses = Literal["true", "reckoned", "given"]  # of the context: as they were, or as the model reckons them; or of all
_FRAMES_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Method:
    """A way to recall. `make` gives a fresh one, with memories of its own, for one batch of rollouts."""

    name: str
    make: Callable[[], Recall]
    is_foreign: bool = False  # recalls from another session


@dataclass(frozen=True, slots=True)
class Case:
    """A video of T frames, of which the model is to generate the last M."""

    frozen: FrozenSet
    video: Video
    latents: np.ndarray  # (T, C, h, w) float16
    reference: np.ndarray  # (M, H, W, 3) uint8: the best that the VAE can show
    poses: dict[Poses, np.ndarray]  # (T, 3) float32 each, from the start
    split: Split

    @property
    def first(self) -> int:
        return self.frozen.first

    @property
    def truth(self) -> np.ndarray:
        """The last M frames as rendered."""
        return self.video.frames[self.first :]

    def record(self, poses: Poses) -> Record:
        """What a session knows when the context ends; nothing of what comes but the controls."""
        latents, believed = self.latents.copy(), self.poses[poses].copy()
        latents[self.first :], believed[self.first :] = 0, 0
        return Record(latents, self.video.controls, believed, truth=self.poses["true"], is_led=poses == "given")

    def whole_record(self, poses: Poses) -> Record:
        return Record(self.latents, self.video.controls, self.poses[poses], truth=self.poses["true"])


def prepare(model: Rooms, frozen: FrozenSet, videos: Sequence[Video]) -> list[Case]:
    """Encode videos, decode what is to be generated, and tell revisits from novel views."""
    latents = np.stack([encoded(model, video.frames) for video in videos])
    kept = reckoned(model, latents, np.stack([video.controls for video in videos]))
    cases = []
    for video, own, record in zip(videos, latents, kept, strict=True):
        split = split_views(Camera(), video.views, first=frozen.first, recent=model.spec.num_recent)
        true = from_start(video.poses)
        poses: dict[Poses, np.ndarray] = {"true": true, "given": true, "reckoned": record.poses}
        cases.append(Case(frozen, video, record.latents, decoded(model, own[frozen.first :]), poses, split))
    return cases


def records(cases: Sequence[Case], poses: Poses, *, is_foreign: bool = False) -> list[Record]:
    """What each session knows; if `is_foreign`, with the next session's memory for its own."""
    own = [case.record(poses) for case in cases]
    if is_foreign:
        for i, record in enumerate(own):
            record.library = cases[(i + 1) % len(cases)].whole_record(poses)
    return own


def encoded(model: WorldModel, frames: np.ndarray) -> np.ndarray:
    """Latents (n, C, h, w) of frames (n, H, W, 3)."""
    return np.concatenate([model.encode(part) for part in _parts(frames)])


def decoded(model: WorldModel, latents: np.ndarray) -> np.ndarray:
    """Frames (n, H, W, 3) of latents (n, C, h, w), each of which stands for one."""
    poses = np.zeros((_FRAMES_AT_ONCE, 3), np.float32)
    return np.concatenate([model.decode([None], [Section(part, poses[: len(part)])])[0] for part in _parts(latents)])


def _parts(array: np.ndarray) -> list[np.ndarray]:
    return [array[i : i + _FRAMES_AT_ONCE] for i in range(0, len(array), _FRAMES_AT_ONCE)]
