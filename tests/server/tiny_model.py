"""A world model in numpy, small and real: a camera moves over a picture that it invents where it looks first.

What it shows follows from what it is shown: cells that its history holds are copied, all others are made up anew.
So a place that nobody recalls has changed when one comes back, and one that is recalled has not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.world_model import ControlAxis, ControlSchema, History, ModelSpec, Section

CHANNELS, ROWS, COLUMNS = 3, 4, 8  # of a latent: the camera's window
WORLD_ROWS, WORLD_COLUMNS = 16, 64  # of the picture, a torus
CELL = 4  # pixels of a latent's cell, each way
METRES = 0.25  # to a cell
FIELD_OF_VIEW, FARTHEST = 0.5, 2.0  # radians and metres, if it has rays

SCHEMA = ControlSchema(
    axes=(
        ControlAxis("turn", keys=(("ArrowLeft", -1.0), ("ArrowRight", 1.0)), pointer="x", pointer_gain=0.125),
        ControlAxis("climb", keys=(("KeyW", 1.0), ("KeyS", -1.0))),
    )
)


@dataclass(slots=True)
class TinyState:
    start: Section
    seed: int
    place: np.ndarray  # (2,) row and column of the window's corner, in cells
    num_sections: int = 0
    tint: float = 0.0


@dataclass(slots=True)
class TinyJob:
    state: TinyState
    target: np.ndarray  # (S, C, h, w)
    places: np.ndarray  # (S, 2)
    noisy: np.ndarray
    steps_left: int


class TinyModel:
    """Implements `WorldModel`: two denoise steps, two recalled slots, four recent ones."""

    def __init__(
        self,
        *,
        section_latents: int = 1,
        frames_per_latent: int = 1,
        max_batch: int = 4,
        decodes_aside: bool = False,
        num_rays: int = 0,
    ) -> None:
        self.spec = ModelSpec(
            name="tiny",
            frame_shape=(ROWS * CELL, COLUMNS * CELL),
            frame_rate=50.0,
            latent_shape=(CHANNELS, ROWS, COLUMNS),
            section_latents=section_latents,
            frames_per_latent=frames_per_latent,
            schedule=f"f1k1f2s1f4k1_g{section_latents}",
            context_tokens=7 * ROWS * COLUMNS,
            num_recalled=2,
            num_recent=4,
            num_steps=2,
            feature_size=CHANNELS * ROWS * COLUMNS + 1,
            controls=SCHEMA,
            max_batch=max_batch,
            has_pose=True,
            num_rays=num_rays,
            field_of_view=FIELD_OF_VIEW if num_rays else None,
            accepts_prompt=True,
            decodes_aside=decodes_aside,
        )

    def open(self, *, image: np.ndarray | None, prompt: str, seed: int) -> TinyState:
        first = _invented(seed, 0)[:, :ROWS, :COLUMNS] if image is None else self.encode(image[None])[0]
        start = Section(first[None].astype(np.float16), np.zeros((1, 3), np.float32))
        return TinyState(start, seed, np.zeros(2), tint=_tint(prompt))

    def resume(self, state: TinyState, latents: np.ndarray, poses: np.ndarray, *, num_sections: int) -> None:
        assert len(latents) == len(poses)
        state.place = poses[-1, [1, 0]].astype(float) / METRES
        state.num_sections = num_sections

    def set_prompt(self, state: TinyState, prompt: str) -> None:
        if not prompt:
            raise ValueError("expected a prompt, got an empty one")
        state.tint = _tint(prompt)

    def expected_poses(self, state: TinyState, controls: np.ndarray) -> np.ndarray:
        return _poses(_places(state.place, controls))

    def begin(
        self, states: Sequence[TinyState], controls: Sequence[np.ndarray], histories: Sequence[History]
    ) -> list[TinyJob]:
        return [self._begin(*row) for row in zip(states, controls, histories, strict=True)]

    def _begin(self, state: TinyState, controls: np.ndarray, history: History) -> TinyJob:
        assert controls.shape == (self.spec.section_latents * self.spec.frames_per_latent, len(SCHEMA.axes))
        picture = _invented(state.seed, state.num_sections + 1) + state.tint
        num_recalled = self.spec.num_recalled
        newest_first = [0, *range(num_recalled, 0, -1), *range(num_recalled + 1, len(history.valid))]
        for slot in newest_first:  # later ones are painted over earlier ones
            if history.valid[slot]:
                picture[_window(history.poses[slot, [1, 0]] / METRES)] = history.latents[slot]
        places = _places(state.place, controls)[self.spec.frames_per_latent - 1 :: self.spec.frames_per_latent]
        target = np.stack([picture[_window(place)] for place in places])
        noise = np.random.default_rng((state.seed, state.num_sections, 1)).standard_normal(target.shape)
        return TinyJob(state, target, places, noise, self.spec.num_steps)

    def advance(self, jobs: Sequence[TinyJob]) -> None:
        assert len(jobs) <= self.spec.max_batch
        for job in jobs:
            if job.steps_left:
                job.noisy = job.noisy + (job.target - job.noisy) / job.steps_left
                job.steps_left -= 1

    def finish(self, jobs: Sequence[TinyJob]) -> list[Section]:
        for job in jobs:
            assert job.steps_left == 0
            job.state.place = job.places[-1]
            job.state.num_sections += 1
        return [Section(job.noisy.astype(np.float16), _poses(job.places)) for job in jobs]

    def decode(self, states: Sequence[TinyState], sections: Sequence[Section]) -> list[np.ndarray]:
        assert len(states) == len(sections)
        return [np.repeat(_pixels(section.latents), self.spec.frames_per_latent, axis=0) for section in sections]

    def encode(self, frames: np.ndarray) -> np.ndarray:
        rows, columns = (
            np.linspace(0, size - 1, num).astype(int)
            for size, num in zip(frames.shape[1:3], (ROWS, COLUMNS), strict=True)
        )
        return (frames[:, rows][:, :, columns].transpose(0, 3, 1, 2) / 255).astype(np.float16)

    def features(self, latents: np.ndarray) -> np.ndarray:
        flat = latents.reshape(len(latents), -1).astype(np.float32) - 0.5
        flat = np.concatenate([flat, np.full((len(flat), 1), 0.01, np.float32)], axis=1)  # never of length 0
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    def sight(self, latents: np.ndarray) -> np.ndarray:
        return np.full((len(latents), self.spec.num_rays), 1 / FARTHEST, np.float32)


def _invented(seed: int, section: int) -> np.ndarray:
    return np.random.default_rng((seed, section)).random((CHANNELS, WORLD_ROWS, WORLD_COLUMNS), np.float32)


def _tint(prompt: str) -> float:
    return len(prompt) % 7 / 100


def _places(place: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """Where each control (n, 2) leads: (n, 2) rows and columns; full speed is a cell up or two aside."""
    return place + np.cumsum(controls[:, ::-1] * (1.0, 2.0), axis=0)


def _poses(places: np.ndarray) -> np.ndarray:
    return np.concatenate([places[:, ::-1] * METRES, np.zeros((len(places), 1))], axis=1).astype(np.float32)


def _window(place: np.ndarray) -> tuple[slice, np.ndarray, np.ndarray]:
    row, column = np.round(place).astype(int)
    rows = (row + np.arange(ROWS)) % WORLD_ROWS
    return slice(None), rows[:, None], ((column + np.arange(COLUMNS)) % WORLD_COLUMNS)[None]


def _pixels(latents: np.ndarray) -> np.ndarray:
    images = latents.astype(np.float32).clip(0, 1).transpose(0, 2, 3, 1) * 255
    return images.round().astype(np.uint8).repeat(CELL, axis=1).repeat(CELL, axis=2)
