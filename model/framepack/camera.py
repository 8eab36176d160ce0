"""Steering by words: keys move the axes of a control vector, and axes that are moved add a phrase to the prompt."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ..world_model import ControlAxis, ControlSchema

SHIPPED = Path(__file__).parent / "camera.json"
MOVED = 0.25  # of an axis, at any frame of a section: less is a stick at rest


class CameraError(ValueError):
    """A file of phrases that is none; the message says what is wrong with it."""


class Phrased(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An axis and what it says when it is moved one way or the other; empty says nothing."""

    name: str
    forward: str  # above 0
    backward: str  # below 0
    keys: dict[str, float] = {}
    pointer: Literal["x", "y"] | None = None
    pointer_gain: float = 0.0


@dataclass(frozen=True, slots=True)
class Camera:
    """The phrases of all axes, in the order of the control vector."""

    axes: tuple[Phrased, ...]

    @property
    def schema(self) -> ControlSchema:
        return ControlSchema(
            tuple(ControlAxis(a.name, tuple(a.keys.items()), a.pointer, a.pointer_gain) for a in self.axes)
        )

    def phrases(self, controls: np.ndarray) -> str:
        """What a section's `controls` (frames, A) say: the axes that were moved, the most moved first.

        A key that was only tapped moves its axis for one frame, and that counts.
        """
        sums, peaks = controls.sum(axis=0), np.abs(controls).max(axis=0)
        moved = sorted((-abs(total), i) for i, total in enumerate(sums) if peaks[i] > MOVED and total)
        words = (self.axes[i].forward if sums[i] > 0 else self.axes[i].backward for _, i in moved)
        return " ".join(filter(None, words))

    def direct(self, prompt: str, controls: np.ndarray) -> str:
        """The prompt of a section that is steered by `controls`."""
        return " ".join(filter(None, (prompt.strip(), self.phrases(controls))))


def load_camera(path: Path = SHIPPED) -> Camera:
    """Phrases from a JSON file in the form of the shipped one; raises CameraError, and OSError if there is none."""
    try:
        axes = msgspec.json.decode(path.read_bytes(), type=tuple[Phrased, ...])
    except msgspec.DecodeError as error:
        raise CameraError(f"expected a list of axes with phrases in {path}: {error}") from error
    names = [axis.name for axis in axes]
    if not axes or len(set(names)) < len(names):
        raise CameraError(f"expected axes of different names in {path}, got {names}")
    return Camera(axes)
