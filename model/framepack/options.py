"""How FramePack is played: what its weights were trained for, what an operator chooses, and the spec that follows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..clips.request import Order
from ..packing.schedule import Kernel, Schedule
from ..world_model import ModelSpec
from .camera import Camera
from .pictures import LatentFormat
from .step_cache import Rule

FEATURE_GRID = 4  # latents are pooled to this many cells each way for the memory bank's keys


class OptionsError(ValueError):
    """Options that no model can follow."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What a network was trained for."""

    name: str
    schedules: Mapping[Order, str]  # the live one is vanilla's
    frame_rate: float = 30.0
    shift: float | None = None  # of the noise levels; by the tokens of a section if None


@dataclass(frozen=True, slots=True)
class Options:
    """How a model is played. Frames are multiples of 16 pixels."""

    frame_shape: tuple[int, int] = (480, 832)
    schedule: str = ""  # of live play and the vanilla order; what the weights were trained for if empty
    steps: int = 25
    solver: Literal["euler", "unipc"] = "unipc"
    cache: Rule | None = None  # leaves out blocks; the picture suffers a little
    num_recalled: int = 0  # groups of the coarsest slots, the oldest first, that show a memory instead of the past
    prompt_sections: int = 2  # that a new prompt takes to fade in; 1 is at once
    max_batch: int = 2
    decodes_aside: bool = False  # while the next section is sampled: for GPUs with memory for both

    def __post_init__(self) -> None:
        if any(size < 16 or size % 16 for size in self.frame_shape):
            raise OptionsError(f"expected frames of multiples of 16 pixels, got {self.frame_shape}")
        if min(self.steps, self.prompt_sections, self.max_batch) < 1:
            raise OptionsError(f"expected steps, prompt_sections and max_batch of at least 1, got {self}")


def kernels_of(weights: Weights, options: Options) -> set[Kernel]:
    """What a network must have projections for: all orders' kernels, and those of the operator's own schedule."""
    schedules = [Schedule.parse(name) for name in (*weights.schedules.values(), options.schedule) if name]
    return {segment.kernel for schedule in schedules for segment in schedule.past + schedule.future}


def spec_of(weights: Weights, options: Options, schedule: Schedule, form: LatentFormat, camera: Camera) -> ModelSpec:
    """What the server is told of the model."""
    rows, columns = (size // form.spatial_ratio for size in options.frame_shape)
    return ModelSpec(
        name=weights.name,
        frame_shape=options.frame_shape,
        frame_rate=weights.frame_rate,
        latent_shape=(form.channels, rows, columns),
        section_latents=schedule.target,
        frames_per_latent=form.temporal_ratio,
        schedule=str(schedule),
        context_tokens=schedule.context_tokens((rows, columns)),
        num_recalled=options.num_recalled,
        num_recent=sum(segment.frames for segment in schedule.recent),
        num_steps=options.steps,
        feature_size=form.channels * FEATURE_GRID**2,
        controls=camera.schema,
        max_batch=options.max_batch,
        accepts_prompt=True,
        decodes_aside=options.decodes_aside,
    )
