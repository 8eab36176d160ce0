"""A planned model in numpy: each latent says in its values what it was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from model.clips.planned import Aim
from model.clips.request import Order
from model.drift.discretize import Codebook
from model.drift.orders import EMPTY
from model.world_model import ControlAxis, ControlSchema, History, ModelSpec, Section

SHAPE = (2, 2, 4)  # of a latent
SECTION, RATIO = 3, 2


@dataclass(slots=True)
class Line:
    start: Section
    seed: int


@dataclass(slots=True)
class Sampling:
    latents: np.ndarray
    steps_left: int


@dataclass(slots=True)
class PlannedTiny:
    """Sections of 3 latents of 2 frames; a latent is gray, as light as its target index and what it sees make it."""

    name: str = "planned"
    schedules: Mapping[Order, str] = field(
        default_factory=lambda: {
            "vanilla": "f1k1f2k2f1k1_g3",
            "endpoint": "f2k2f1k1_g3_x_f1k1",
            "planned": "f2k2f1k1_g3_x_f1k1",
            "inverted": "f1k1_x_g3_f1k1f2k2",
        }
    )
    codebook: Codebook | None = None
    aims: list[Aim] = field(default_factory=list)  # of all samplings so far, for tests to look at

    @property
    def spec(self) -> ModelSpec:
        axes = ControlSchema((ControlAxis("turn"),))
        return ModelSpec(
            self.name, (16, 32), 12.0, SHAPE, SECTION, RATIO, "f1k1f2k2f1k1_g3", 9, 0, 3, 2, 2, axes, 1,
            accepts_prompt=True,
        )  # fmt: skip

    def open(self, *, image: np.ndarray | None, prompt: str, seed: int) -> Line:  # noqa: ARG002 - the aim has it
        latent = np.full(SHAPE, 0.5, np.float16) if image is None else self.encode(image[None])[0]
        return Line(Section(latent[None], np.zeros((1, 3), np.float32)), seed)

    def begin_planned(self, state: Line, aim: Aim) -> Sampling:
        self.aims.append(aim)
        seen = [s for view in aim.sampling.context for s in view.sources if s != EMPTY]
        latents = aim.latents(seen) if seen else np.zeros((1, *SHAPE))
        light = np.random.default_rng((state.seed, *aim.sampling.target)).random()
        light = 0.7 * light + 0.2 * float(latents.mean()) + 0.1 * float(aim.controls.mean()) + len(aim.prompts[0]) / 99
        return Sampling(np.full((len(aim.sampling.target), *SHAPE), light), 2)

    def advance(self, jobs: Sequence[Sampling]) -> None:
        for job in jobs:
            job.steps_left -= 1

    def finish(self, jobs: Sequence[Sampling]) -> list[Section]:
        return [Section(job.latents.astype(np.float16), np.zeros((len(job.latents), 3), np.float32)) for job in jobs]

    def decode(self, states: Sequence[Line], sections: Sequence[Section]) -> list[np.ndarray]:
        assert len(states) == len(sections)
        light = [(s.latents.astype(np.float32).mean((1, 2, 3)) * 255).clip(0, 255).astype(np.uint8) for s in sections]
        return [np.tile(row.repeat(RATIO)[:, None, None, None], (1, 16, 32, 3)) for row in light]

    def encode(self, frames: np.ndarray) -> np.ndarray:
        light = frames.reshape(len(frames), -1).mean(1) / 255
        return np.tile(light[:, None, None, None], (1, *SHAPE)).astype(np.float16)

    def encode_video(self, frames: np.ndarray) -> np.ndarray:
        assert len(frames) % RATIO == 1
        return self.encode(frames[::RATIO])

    def features(self, latents: np.ndarray) -> np.ndarray:
        return np.tile(np.float32([0.6, 0.8]), (len(latents), 1))

    def sight(self, latents: np.ndarray) -> np.ndarray:
        return np.zeros((len(latents), 0), np.float32)

    def resume(self, state: Line, latents: np.ndarray, poses: np.ndarray, *, num_sections: int) -> None: ...

    def set_prompt(self, state: Line, prompt: str) -> None: ...

    def expected_poses(self, state: Line, controls: np.ndarray) -> np.ndarray:  # noqa: ARG002 - it keeps none
        return np.zeros((len(controls), 3), np.float32)

    def begin(self, states: Sequence[Line], controls: Sequence[np.ndarray], histories: Sequence[History]) -> list[Any]:
        assert not (states or controls or histories), "this one is only planned with"
        return []
