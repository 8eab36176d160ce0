"""`helios`: what diffusers' pipelines make, played without end, many sessions in one forward pass.

C x h x w one latent, S latents of a chunk, which is one section and one latent of the server's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..clips.fit import fit
from ..drift.soft_append import num_frames
from ..framepack.camera import Camera
from ..framepack.network import Row
from ..framepack.options import FEATURE_GRID, OptionsError
from ..framepack.pictures import Pictures, to_uint8
from ..framepack.step_cache import Rule, StepCache, step_caches
from ..framepack.stepping import step_all
from ..framepack.wording import Mix, Wording
from ..packing.context import Context
from ..packing.schedule import Schedule
from ..wan.guided import GuidedNetwork
from ..world_model import History, ModelSpec, Section
from .chunks import ChunkSlots, from_chunk, to_chunk
from .course import Course, Plan

FRAME_RATE = 24.0
SCHEDULE = "td_f1k1f16k4f2k2f1k1_g9"
START_NOISE = (0.111, 0.135)  # on images and videos: Helios was trained to go on from what is not perfect


@dataclass(frozen=True, slots=True)
class HeliosOptions:
    """How Helios is played. Frames are multiples of 16 pixels, or 64 where a pyramid of three is climbed."""

    frame_shape: tuple[int, int] = (384, 640)
    schedule: str = SCHEDULE  # with other sections than g9 the weights do what they can
    prompt_sections: int = 2  # that a new prompt takes to fade in; 1 is at once
    max_batch: int = 2
    cache: Rule | None = None  # leaves out blocks; the picture suffers a little
    decodes_aside: bool = False  # while the next chunk is sampled: for GPUs with memory for both

    def __post_init__(self) -> None:
        if min(self.frame_shape) < 16:
            raise OptionsError(f"expected frames of at least 16 x 16 pixels, got {self.frame_shape}")
        if min(self.prompt_sections, self.max_batch) < 1:
            raise OptionsError(f"expected prompt_sections and max_batch of at least 1, got {self}")


@dataclass(slots=True)
class HeliosState:
    """A session's own memory: how its world began, and what is said of it."""

    start: Section
    seed: int
    opening: str  # the prompt that it began with
    wording: Wording
    first: Tensor | None = None  # (C, 1, h, w), pinned; None while a world of words has no chunk
    before: Tensor | None = None  # (C, 1, h, w): what a start image leaves before the first chunk
    sections: int = 0


@dataclass(slots=True)
class HeliosJob:
    """A chunk being sampled."""

    state: HeliosState
    wording: Wording  # as it was when the chunk began
    contexts: Mapping[int, Context]  # by the width of the noisy latents
    context: Context
    given: Any
    noisy: Tensor  # (1, C, S, h, w) float32, smaller at first if a pyramid is climbed
    course: Course
    caches: tuple[StepCache, ...]  # one for each pass of a step, or none
    clean: Tensor | None = None  # like `noisy`: as the last step foresaw it

    @property
    def steps_left(self) -> int:
        return self.course.steps_left

    def row(self) -> Row:
        return Row(self.noisy, self.course.sigma, self.context, self.given, self.caches)

    def take(self, velocity: Tensor) -> None:
        """Where the size changes, the same history stands before a target elsewhere."""
        self.clean = self.noisy - self.course.sigma.to(velocity) * velocity
        self.noisy = self.course.step(self.noisy, velocity)
        self.context = self.contexts[self.noisy.shape[-1]]


class Helios:
    """WorldModel. A world begins with an image, or with words: its first chunk is then made of the opening prompt."""

    def __init__(
        self, network: GuidedNetwork, pictures: Pictures, plan: Plan, *, options: HeliosOptions, camera: Camera
    ) -> None:
        """Raises OptionsError for frames that `plan` cannot halve, SlotsError or ScheduleError for the schedule."""
        multiple = 16 << plan.num_halvings
        if any(size % multiple for size in options.frame_shape):
            raise OptionsError(f"expected frames of multiples of {multiple} pixels, got {options.frame_shape}")
        self.network, self.pictures, self.plan = network, pictures, plan
        self.options, self.camera = options, camera
        schedule, form = Schedule.parse(options.schedule), pictures.form
        self._slots, self._section = ChunkSlots(schedule), schedule.target
        self._grid = options.frame_shape[0] // form.spatial_ratio, options.frame_shape[1] // form.spatial_ratio
        self._tokens = schedule.target_tokens(self._grid)
        self.spec = ModelSpec(
            name="helios",
            frame_shape=options.frame_shape,
            frame_rate=FRAME_RATE,
            latent_shape=(form.channels, self._section * self._grid[0], self._grid[1]),
            section_latents=1,
            frames_per_latent=num_frames(self._section, ratio=form.temporal_ratio),
            schedule=str(schedule),
            context_tokens=schedule.context_tokens(self._grid),
            num_recalled=0,
            num_recent=self._slots.num_chunks,
            num_steps=plan.num_steps,
            feature_size=form.channels * FEATURE_GRID**2,
            controls=camera.schema,
            max_batch=options.max_batch,
            accepts_prompt=True,
            decodes_aside=options.decodes_aside,
        )

    @torch.inference_mode()
    def open(self, *, image: np.ndarray | None = None, prompt: str = "", seed: int = 0) -> HeliosState:
        if image is None:
            return HeliosState(_section(np.zeros(self.spec.latent_shape, np.float16)), seed, prompt, Wording(prompt))
        still = self.pictures.encode_video(self._still(fit(image, shape=self.spec.frame_shape))).transpose(0, 1).cpu()
        random = generator_of(seed, 0)
        first, before = (_noised(latent, random) for latent in (still[:, :1], still[:, -1:]))
        return HeliosState(_section(to_chunk(still)), seed, prompt, Wording(prompt), first, before)

    @torch.inference_mode()
    def resume(self, state: HeliosState, latents: np.ndarray, poses: np.ndarray, *, num_sections: int) -> None:  # noqa: ARG002 - no poses
        if num_sections and state.first is None:
            is_there = num_sections <= len(latents)
            chunk = latents[-num_sections] if is_there else self._first_chunk(state)
            state.first = from_chunk(chunk, section=self._section)[:, :1]
        state.sections, state.wording = num_sections, state.wording.settled()

    def set_prompt(self, state: HeliosState, prompt: str) -> None:
        state.wording = state.wording.change(prompt, fade=self.options.prompt_sections)

    def expected_poses(self, state: HeliosState, controls: np.ndarray) -> np.ndarray:  # noqa: ARG002 - it keeps none
        return np.zeros((len(controls), 3), np.float32)

    @torch.inference_mode()
    def begin(
        self, states: Sequence[HeliosState], controls: Sequence[np.ndarray], histories: Sequence[History]
    ) -> list[HeliosJob]:
        return [self._begin(*row) for row in zip(states, controls, histories, strict=True)]

    @torch.inference_mode()
    def advance(self, jobs: Sequence[HeliosJob]) -> None:
        step_all(self.network, jobs)

    def finish(self, jobs: Sequence[HeliosJob]) -> list[Section]:
        chunks = [to_chunk(job.noisy[0]) for job in jobs]
        for job, chunk in zip(jobs, chunks, strict=True):
            state = job.state
            state.sections += 1
            if state.first is None:
                state.first = from_chunk(chunk, section=self._section)[:, :1]
            if job.wording is not None:
                state.wording = state.wording.after(job.wording)
        return [_section(chunk) for chunk in chunks]

    @torch.inference_mode()
    def decode(self, states: Sequence[HeliosState], sections: Sequence[Section]) -> list[np.ndarray]:  # noqa: ARG002 - a chunk stands alone
        films = (from_chunk(section.latents[0], section=self._section) for section in sections)
        return [to_uint8(self.pictures.decode(film)) for film in films]

    @torch.inference_mode()
    def draft(self, job: HeliosJob) -> np.ndarray:
        """The last frame (H, W, 3) of a chunk as its last step foresaw it, decoded alone; small steps look coarse."""
        newest = job.noisy if job.clean is None else job.clean
        return fit(to_uint8(self.pictures.decode(newest[0, :, -1:].float()))[0], shape=self.spec.frame_shape)

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """A chunk (C, S h, w) of each frame, standing still."""
        return np.stack([to_chunk(self.pictures.encode_video(self._still(frame)).transpose(0, 1)) for frame in frames])

    @torch.inference_mode()
    def encode_video(self, frames: np.ndarray) -> np.ndarray:
        """Chunks (1 + (n - 1) / frames_per_latent, C, S h, w) float16 of a video (n, H, W, 3) uint8.

        The first is the first frame, standing still; the others are a little noisy, as videos are to Helios.
        """
        size, random = self.spec.frames_per_latent, generator_of(0, 0)
        parts = (self.pictures.encode_video(frames[at : at + size]) for at in range(1, len(frames), size))
        chunks = [to_chunk(_noised(part.transpose(0, 1).cpu(), random)) for part in parts]
        return np.stack([*self.encode(frames[:1]), *chunks])

    def features(self, latents: np.ndarray) -> np.ndarray:
        """What each chunk ends with."""
        newest = torch.stack([from_chunk(chunk, section=self._section)[:, -1] for chunk in latents])
        pooled = torch.nn.functional.adaptive_avg_pool2d(newest, FEATURE_GRID).flatten(1)
        return torch.nn.functional.normalize(pooled + 1e-6, dim=1).numpy()  # the start of a world of words is zero

    def sight(self, latents: np.ndarray) -> np.ndarray:
        return np.zeros((len(latents), 0), np.float32)

    def _still(self, frame: np.ndarray) -> np.ndarray:
        return np.repeat(frame[None], self.spec.frames_per_latent, axis=0)

    def _begin(self, state: HeliosState, controls: np.ndarray, history: History) -> HeliosJob:
        if state.first is None:
            return self._first_job(state)
        mix = tuple((self.camera.direct(prompt, controls), share) for prompt, share in state.wording.mix)
        return self._job(state, history, mix=mix, wording=state.wording)

    def _first_job(self, state: HeliosState) -> HeliosJob:
        """It follows from how the world was opened alone, so that it can be made again."""
        nothing = History(
            latents=np.zeros((1, *self.spec.latent_shape), np.float16),
            indices=np.zeros(1, np.int64),
            poses=np.zeros((1, 3), np.float32),
            valid=np.zeros(1, bool),
        )
        wording = Wording(state.opening)
        return self._job(state, nothing, mix=wording.mix, wording=wording)

    def _first_chunk(self, state: HeliosState) -> np.ndarray:
        job = self._first_job(state)
        while job.steps_left:
            self.advance([job])
        return to_chunk(job.noisy[0])

    def _job(self, state: HeliosState, history: History, *, mix: Mix, wording: Wording) -> HeliosJob:
        pieces = self._slots.pieces(history, first=state.first, before=state.before)
        target = torch.tensor([self._slots.target])
        context = self.network.pack(pieces, target=target)
        random = generator_of(state.seed, state.sections + 1)
        noise = torch.randn(1, self.spec.latent_shape[0], self._section, *self._grid, generator=random)
        course = self.plan.course(random, tokens=self._tokens, is_first=state.sections == 0)
        noisy = course.begin(noise.to(self.network.device))
        grids = [(self._grid[0] >> n, self._grid[1] >> n) for n in range(self.plan.num_halvings + 1)]
        contexts = {grid[1]: self.network.retarget(context, target=target, grid=grid) for grid in grids}
        given = self.network.condition(mix, None)
        caches = step_caches(self.options.cache, steps=self.plan.num_steps, passes=self.network.num_passes)
        return HeliosJob(state, wording, contexts, contexts[noisy.shape[-1]], given, noisy, course, caches)


def generator_of(seed: int, index: int) -> torch.Generator:
    """Of all noise of the chunk `index` of a session, 0 of its start."""
    return torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)


def _noised(latents: Tensor, random: torch.Generator) -> Tensor:
    """Latents (C, t, h, w) between clean and noise, each at a level of its own, in the order that diffusers draws."""
    low, high = START_NOISE
    sigma = (torch.rand(latents.shape[1], generator=random) * (high - low) + low).view(-1, 1, 1)
    noise = torch.randn(1, *latents.shape, generator=random)[0]
    return sigma * noise + (1 - sigma) * latents


def _section(chunk: np.ndarray) -> Section:
    return Section(chunk[None], np.zeros((1, 3), np.float32))
