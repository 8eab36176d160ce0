"""What the server asks of a world model: arrays cross this interface, tensors stay behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class ControlAxis:
    """One component of the control vector, in [-1, 1] per world frame, 0 at rest."""

    name: str
    keys: tuple[tuple[str, float], ...] = ()  # (W3C KeyboardEvent.code, value while it is held)
    pointer: Literal["x", "y"] | None = None  # pointer motion that adds to this axis
    pointer_gain: float = 0.0  # axis units x frames for one pixel of motion


@dataclass(frozen=True, slots=True)
class ControlSchema:
    """The control vector's components, in order. The page and the validation follow from it."""

    axes: tuple[ControlAxis, ...]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What never changes about a model; the server sizes everything by it."""

    name: str
    frame_shape: tuple[int, int]  # H, W in pixels
    frame_rate: float  # world frames per second
    latent_shape: tuple[int, int, int]  # C, h, w of one latent
    section_latents: int  # S: latents made by one sampling
    frames_per_latent: int
    schedule: str  # of the context, in the paper's grammar
    context_tokens: int
    num_recalled: int  # slots for recalled latents, each one latent
    num_recent: int  # slots for the newest latents
    num_steps: int  # denoise steps for one section
    feature_size: int
    controls: ControlSchema
    max_batch: int
    has_pose: bool = False  # keeps an estimate of the pose (x, y, heading)
    num_rays: int = 0  # R of `sight`; 0 where the model does not know how far it sees
    field_of_view: float | None = None  # radians, horizontal, over which the rays are spread
    accepts_image: bool = True
    accepts_prompt: bool = False
    decodes_aside: bool = False  # `decode` may run in a thread of its own beside all other methods, and that pays


@dataclass(frozen=True, slots=True)
class History:
    """What one session shows the model for its next section: slots in the order start, recalled, recent.

    N = 1 + num_recalled + num_recent. Recalled slots are best first. Recent slots are oldest first, so the
    newest latent is last; the start is among them until it is too old.
    An invalid slot's content is zero and must not influence the result.
    """

    latents: np.ndarray  # (N, C, h, w) float16
    indices: np.ndarray  # (N,) int64: latent index in the session, the start is 0
    poses: np.ndarray  # (N, 3) float32: what `finish` said of each, zeros if the model keeps none
    valid: np.ndarray  # (N,) bool


@dataclass(frozen=True, slots=True)
class Section:
    """What one sampling made."""

    latents: np.ndarray  # (S, C, h, w) float16
    poses: np.ndarray  # (S, 3) float32: x, y and heading relative to the start, zeros if the model keeps none


class State(Protocol):
    """A model's own memory of one session. Only `WorldModel.finish` and `set_prompt` change it.

    What joins sections to the ones shown before is `decode`'s own: nothing else reads or changes it.
    """

    @property
    def start(self) -> Section:
        """The start frame as a section of one latent: index 0 of the session's history."""


class Job(Protocol):
    """A section being sampled. Dropping it aborts it: until `finish` the state is untouched."""

    @property
    def steps_left(self) -> int: ...


class WorldModel(Protocol):
    """A model that the server can play. One thread calls it, never two at once.

    Where the spec says `decodes_aside` a second thread calls `decode`, and nothing else, while the first may be in any
    other method. A GPU has time for that; threads on a CPU, or a next section that needs the picture, do not.

    All arrays are numpy: latents float16, frames uint8 RGB (n, H, W, 3), controls and features float32.
    States and jobs are the model's own types. Equal states, controls and histories give equal sections,
    whoever else is in the batch.
    """

    spec: ModelSpec

    def open(self, *, image: np.ndarray | None, prompt: str, seed: int) -> State:
        """Begin a session from `image` (H, W, 3 at any size), or from a start of the model's choice by `seed`."""

    def resume(self, state: Any, latents: np.ndarray, poses: np.ndarray, *, num_sections: int) -> None:
        """Put `state` (fresh from `open`) where it was after `num_sections`; the arrays end with the newest latent."""

    def set_prompt(self, state: Any, prompt: str) -> None:
        """Take effect at the next `begin`."""

    def expected_poses(self, state: Any, controls: np.ndarray) -> np.ndarray:
        """Where `controls` (n, A) would lead if nothing were in the way: (n, 3) float32."""

    def begin(self, states: Sequence[Any], controls: Sequence[np.ndarray], histories: Sequence[History]) -> list[Any]:
        """Start one section per state; each `controls` is (S x frames_per_latent, A)."""

    def advance(self, jobs: Sequence[Any]) -> None:
        """One denoise step for each job that has steps left, in one batch, at any mix of steps."""

    def finish(self, jobs: Sequence[Any]) -> list[Section]:
        """Commit jobs that have no steps left to their states."""

    def decode(self, states: Sequence[Any], sections: Sequence[Section]) -> list[np.ndarray]:
        """Frames of each section, (S x frames_per_latent, H, W, 3) uint8; once per section, in order."""

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """Latents of frames (n, H, W, 3) that stand alone: (n, C, h, w)."""

    def features(self, latents: np.ndarray) -> np.ndarray:
        """The memory bank's keys, L2-normalised: (n, feature_size)."""

    def sight(self, latents: np.ndarray) -> np.ndarray:
        """How far each of `latents` sees: inverse distances in 1/m along its heading, left to right, (n, num_rays)."""
