"""A world model whose answer cannot be missed: the picture is bright while W is held, dark while it is not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.world_model import ControlAxis, ControlSchema, History, ModelSpec, Section

CHANNELS, ROWS, COLUMNS = 3, 8, 8  # of a latent
DARK, BRIGHT = 0.25, 0.85
SCHEMA = ControlSchema((ControlAxis("light", keys=(("KeyW", 1.0),)),))


@dataclass(slots=True)
class BlinkState:
    start: Section
    num_frames: int = 0


@dataclass(slots=True)
class BlinkJob:
    state: BlinkState
    light: float
    steps_left: int


class BlinkModel:
    """Implements `WorldModel` at no cost, so that all of a measured latency is the server's, or the network's.

    The picture is a texture that moves on every frame: what an encoder gets from a game.
    """

    def __init__(self, *, size: int = 128, frame_rate: float = 30.0) -> None:
        self.spec = ModelSpec(
            name="blink",
            frame_shape=(size, size),
            frame_rate=frame_rate,
            latent_shape=(CHANNELS, ROWS, COLUMNS),
            section_latents=1,
            frames_per_latent=1,
            schedule="f1k1_g1",
            context_tokens=2 * ROWS * COLUMNS,
            num_recalled=0,
            num_recent=1,
            num_steps=1,
            feature_size=CHANNELS * ROWS * COLUMNS,
            controls=SCHEMA,
            max_batch=8,
            accepts_image=False,
        )
        self._texture = MovingTexture(size)

    def open(self, *, image: np.ndarray | None, prompt: str, seed: int) -> BlinkState:
        del image, prompt, seed  # all its worlds are the same
        return BlinkState(_section(DARK))

    def resume(self, state: BlinkState, latents: np.ndarray, poses: np.ndarray, *, num_sections: int) -> None:
        assert len(latents) == len(poses)
        state.num_frames = num_sections

    def set_prompt(self, state: BlinkState, prompt: str) -> None:
        raise ValueError(f"expected no prompt, got {prompt!r} for {state}")

    def expected_poses(self, state: BlinkState, controls: np.ndarray) -> np.ndarray:
        assert state.start is not None
        return np.zeros((len(controls), 3), np.float32)

    def begin(
        self, states: Sequence[BlinkState], controls: Sequence[np.ndarray], histories: Sequence[History]
    ) -> list[BlinkJob]:
        assert len(states) == len(histories)
        lights = [BRIGHT if control[-1, 0] > 0.5 else DARK for control in controls]
        return [BlinkJob(state, light, 1) for state, light in zip(states, lights, strict=True)]

    def advance(self, jobs: Sequence[BlinkJob]) -> None:
        for job in jobs:
            job.steps_left = 0

    def finish(self, jobs: Sequence[BlinkJob]) -> list[Section]:
        for job in jobs:
            job.state.num_frames += 1
        return [_section(job.light) for job in jobs]

    def decode(self, states: Sequence[BlinkState], sections: Sequence[Section]) -> list[np.ndarray]:
        return [
            self._texture(float(section.latents.mean()), state.num_frames)[None]
            for state, section in zip(states, sections, strict=True)
        ]

    def encode(self, frames: np.ndarray) -> np.ndarray:
        light = frames.mean((1, 2, 3), keepdims=True) / 255
        return np.broadcast_to(light, (len(frames), CHANNELS, ROWS, COLUMNS)).astype(np.float16)

    def features(self, latents: np.ndarray) -> np.ndarray:
        flat = latents.reshape(len(latents), -1).astype(np.float32)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    def sight(self, latents: np.ndarray) -> np.ndarray:
        return np.zeros((len(latents), 0), np.float32)


class MovingTexture:
    """Pictures of a given light: (size, size, 3) uint8 from a light in [0, 1] and a frame's number."""

    def __init__(self, size: int) -> None:
        rng = np.random.default_rng(0)
        coarse = rng.normal(0, 18, (size // 8, size // 8, 3)).repeat(8, 0).repeat(8, 1)
        self._detail = (coarse + rng.normal(0, 4, (size, size, 3))).astype(np.float32)

    def __call__(self, light: float, number: int) -> np.ndarray:
        moved = np.roll(self._detail, 2 * number, axis=1)
        return (255 * light + moved).clip(0, 255).astype(np.uint8)


def _section(light: float) -> Section:
    latents = np.full((1, CHANNELS, ROWS, COLUMNS), light, np.float16)
    return Section(latents, np.zeros((1, 3), np.float32))
