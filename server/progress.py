"""How far a section is that takes long, and what it will look like, for those who wait for it."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from model.world_model import WorldModel

from . import protocol

TELL_EVERY = 1.0  # seconds; of sections that take less nothing is told
PREVIEW_SIZE = 256  # pixels of the longer side
PREVIEW_QUALITY = 70


@runtime_checkable
class DraftingModel(WorldModel, Protocol):
    """A WorldModel that can show a section before it is finished."""

    def draft(self, job: Any) -> np.ndarray:
        """The last frame (H, W, 3) uint8 of a section as far as it is known, at a small part of a step's cost."""


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """How far a section is."""

    frame: int  # its first
    step: int  # done
    num_steps: int
    draft: np.ndarray | None  # (H, W, 3) uint8, None of a model that makes no drafts


def message_of(progress: Progress) -> protocol.Progress:
    """As it is told, with the draft made small."""
    preview = b"" if progress.draft is None else _small(progress.draft)
    return protocol.Progress(progress.frame, progress.step, progress.num_steps, preview)


def _small(frame: np.ndarray) -> bytes:
    image = Image.fromarray(frame)
    image.thumbnail((PREVIEW_SIZE, PREVIEW_SIZE))
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=PREVIEW_QUALITY)
    return buffer.getvalue()
