"""FramePack played without end: a WorldModel over any network of the kind, many sessions in one forward pass.

C x h x w one latent, S latents of a section.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..clips.fit import fit
from ..clips.request import Order
from ..packing.pack import Piece
from ..packing.schedule import Schedule
from ..sampling import Euler, Solver, UniPC, shift_of_tokens, sigmas_of
from ..world_model import History, Section
from .camera import Camera
from .network import Context, Network, Row
from .options import FEATURE_GRID, Options, Weights, spec_of
from .pictures import Pictures, Reel, to_uint8
from .slots import Slots, aimed_pieces, with_target
from .step_cache import StepCache, step_caches
from .stepping import step_all
from .wording import Mix, Wording

if TYPE_CHECKING:
    from ..clips.planned import Aim  # these bring libraries that only clips need
    from ..drift.discretize import Codebook

SOLVERS = {"euler": Euler, "unipc": UniPC}
Paint = Callable[[str, int], np.ndarray]  # a frame (H, W, 3) uint8 of the model's size, from a prompt and a seed


@dataclass(slots=True)
class FramePackState:
    """A session's own memory: its start as the network sees it, its prompt, and what its next frames are joined to."""

    start: Section
    seed: int
    image: Any
    reel: Reel
    wording: Wording
    sections: int = 0


@dataclass(slots=True)
class FramePackJob:
    """A section being sampled."""

    state: FramePackState
    wording: Wording | None  # of a live section, as it was when the section began
    context: Context
    given: Any
    noisy: Tensor  # (1, C, S, h, w) float32
    solver: Solver
    caches: tuple[StepCache, ...]  # one for each pass of a step, or none
    clean: Tensor | None = None  # (1, C, S, h, w): as the last step foresaw it

    @property
    def steps_left(self) -> int:
        return len(self.solver.sigmas) - 1 - self.solver.done

    def row(self) -> Row:
        return Row(self.noisy, self._sigma, self.context, self.given, self.caches)

    def take(self, velocity: Tensor) -> None:
        self.clean = self.noisy - self._sigma.to(velocity.device) * velocity
        self.noisy = self.solver.step(self.noisy, velocity)

    @property
    def _sigma(self) -> Tensor:
        return self.solver.sigmas[self.solver.done]


class FramePack:
    """WorldModel, and PlannedModel for the orders that its weights have schedules of."""

    def __init__(
        self,
        network: Network,
        pictures: Pictures,
        weights: Weights,
        *,
        options: Options,
        camera: Camera,
        starts: Sequence[np.ndarray] | Paint = (),
    ) -> None:
        """`starts` are images to begin with where a session brings none, by its seed, or what paints one; else black.

        Raises SlotsError or ScheduleError for a schedule that cannot be played.
        """
        self.network, self.pictures, self.options, self.camera = network, pictures, options, camera
        self._starts = starts
        self.codebook: Codebook | None = None  # that the weights were trained with, for planned clips with +D
        schedule = Schedule.parse(options.schedule or weights.schedules["vanilla"])
        self._slots = Slots(schedule, num_recalled=options.num_recalled)
        resized = {order: with_target(name, target=schedule.target) for order, name in weights.schedules.items()}
        self.schedules: Mapping[Order, str] = resized | {"vanilla": str(schedule)}
        self.spec = spec_of(weights, options, schedule, pictures.form, camera)
        shift = weights.shift or shift_of_tokens(schedule.target_tokens(self.spec.latent_shape[1:]))
        self._sigmas = sigmas_of(options.steps, shift=shift)

    def open(self, *, image: np.ndarray | None = None, prompt: str = "", seed: int = 0) -> FramePackState:
        frame = self._first_frame(prompt, seed) if image is None else fit(image, shape=self.spec.frame_shape)
        start = _section(self.pictures.encode(frame[None]).transpose(0, 1))
        return FramePackState(start, seed, self.network.look(frame), Reel(_film(start.latents)), Wording(prompt))

    def resume(self, state: FramePackState, latents: np.ndarray, poses: np.ndarray, *, num_sections: int) -> None:  # noqa: ARG002 - no poses
        state.sections, state.wording = num_sections, state.wording.settled()
        if num_sections:
            state.reel = self.pictures.rewind(_film(latents), section=self.spec.section_latents)

    def set_prompt(self, state: FramePackState, prompt: str) -> None:
        state.wording = state.wording.change(prompt, fade=self.options.prompt_sections)

    def expected_poses(self, state: FramePackState, controls: np.ndarray) -> np.ndarray:  # noqa: ARG002 - it keeps none
        return np.zeros((len(controls), 3), np.float32)

    @torch.inference_mode()
    def begin(
        self, states: Sequence[FramePackState], controls: Sequence[np.ndarray], histories: Sequence[History]
    ) -> list[FramePackJob]:
        return [self._begin(*row) for row in zip(states, controls, histories, strict=True)]

    @torch.inference_mode()
    def begin_planned(self, state: FramePackState, aim: "Aim") -> FramePackJob:
        """Start one sampling of a plan; raises OrderError or ValueError for what the network cannot be shown."""
        size, ratio = self.spec.section_latents, self.spec.frames_per_latent
        firsts = aim.sampling.target[::size]
        controls = aim.controls.reshape(len(firsts), size * ratio, -1)
        spoken = [self.camera.direct(*row) for row in zip(aim.prompts, controls, strict=True)]
        mix = tuple((prompt, 1 / len(spoken)) for prompt in spoken)
        return self._job(state, aimed_pieces(aim), indices=aim.sampling.indices, firsts=firsts, mix=mix)

    @torch.inference_mode()
    def advance(self, jobs: Sequence[FramePackJob]) -> None:
        step_all(self.network, jobs)

    def finish(self, jobs: Sequence[FramePackJob]) -> list[Section]:
        for job in jobs:
            if job.wording is not None:
                job.state.sections += 1
                job.state.wording = job.state.wording.after(job.wording)
        return [_section(job.noisy[0]) for job in jobs]

    @torch.inference_mode()
    def decode(self, states: Sequence[FramePackState], sections: Sequence[Section]) -> list[np.ndarray]:
        """As the protocol has it; joining sections needs the last frame shown, so this too moves the state on."""
        rows = zip(states, sections, strict=True)
        return [to_uint8(self.pictures.extend(state.reel, _film(section.latents))) for state, section in rows]

    @torch.inference_mode()
    def draft(self, job: FramePackJob) -> np.ndarray:
        """The last frame (H, W, 3) of a section as its last step foresaw it, decoded alone."""
        newest = job.noisy if job.clean is None else job.clean
        frame: np.ndarray = to_uint8(self.pictures.decode(newest[0, :, -1:]))[0]
        return frame

    def encode(self, frames: np.ndarray) -> np.ndarray:
        return self.pictures.encode(frames).half().cpu().numpy()

    def encode_video(self, frames: np.ndarray) -> np.ndarray:
        """Latents (1 + (n - 1) / frames_per_latent, C, h, w) float16 of a video (n, H, W, 3) uint8."""
        return self.pictures.encode_video(frames).half().cpu().numpy()

    def features(self, latents: np.ndarray) -> np.ndarray:
        grid = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(latents.astype(np.float32)), FEATURE_GRID)
        keys: np.ndarray = torch.nn.functional.normalize(grid.flatten(1), dim=1).numpy()
        return keys

    def sight(self, latents: np.ndarray) -> np.ndarray:
        return np.zeros((len(latents), 0), np.float32)

    def _first_frame(self, prompt: str, seed: int) -> np.ndarray:
        if callable(self._starts):
            return self._starts(prompt, seed)
        if not self._starts:
            return np.zeros((*self.spec.frame_shape, 3), np.uint8)
        return fit(self._starts[seed % len(self._starts)], shape=self.spec.frame_shape)

    def _begin(self, state: FramePackState, controls: np.ndarray, history: History) -> FramePackJob:
        mix = tuple((self.camera.direct(prompt, controls), share) for prompt, share in state.wording.mix)
        first = 1 + state.sections * self.spec.section_latents
        job = self._job(state, self._slots.pieces(history), indices=self._slots.target, firsts=(first,), mix=mix)
        job.wording = state.wording
        return job

    def _job(
        self, state: FramePackState, pieces: Sequence[Piece], *, indices: Sequence[int], firsts: Sequence[int], mix: Mix
    ) -> FramePackJob:
        """A job for the sections whose first latents are `firsts` of the session or clip."""
        steps, device = self.options.steps, self.network.device
        context = self.network.pack(pieces, target=torch.tensor([indices]))
        given = self.network.condition(mix, state.image)
        noisy = torch.cat([self._noise(state.seed, first) for first in firsts], dim=2).to(device)
        solver = SOLVERS[self.options.solver](self._sigmas)
        caches = step_caches(self.options.cache, steps=steps, passes=self.network.num_passes)
        return FramePackJob(state, None, context, given, noisy, solver, caches)

    def _noise(self, seed: int, first: int) -> Tensor:
        """(1, C, S, h, w): every section of every session its own, and the same in whatever order it is made."""
        channels, rows, columns = self.spec.latent_shape
        generator = torch.Generator().manual_seed((seed * 1_000_003 + first) % 2**63)
        return torch.randn(1, channels, self.spec.section_latents, rows, columns, generator=generator)


def _section(latents: Tensor) -> Section:
    """Of latents (C, t, h, w)."""
    array = latents.transpose(0, 1).half().cpu().numpy()
    return Section(array, np.zeros((len(array), 3), np.float32))


def _film(latents: np.ndarray) -> Tensor:
    """(C, t, h, w) float32 of latents (t, C, h, w)."""
    return torch.from_numpy(latents.astype(np.float32)).transpose(0, 1)
