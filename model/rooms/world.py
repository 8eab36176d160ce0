"""The `rooms` plug-in: a WorldModel that generates one frame per section, in real time on a CPU.

Legend: B jobs, m context tokens, n target tokens, H heads, d head size, C x h x w one latent.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..sampling import euler_step, flow_sigmas
from ..world_model import ControlAxis, ControlSchema, History, ModelSpec, Section
from .camera import displacement_between, move, relative
from .dit import KV, Phases, Target
from .geometry import ground_map
from .looks import LooksCache
from .views import SOURCES_AGO, Sources, preview
from .weights import SHIPPED, Networks, load_weights

SCHEDULE = "f1k1f4s2f1s1f16k4f2k2f1k1_g1"
RECALLED = 5  # 4 at s2, then the best at s1
RECENT = 19
FRAME = 128
CACHED_GROUPS = 128  # of each session
CONTROLS = ControlSchema(
    (
        ControlAxis("move", (("KeyW", 1.0), ("ArrowUp", 1.0), ("KeyS", -1.0), ("ArrowDown", -1.0))),
        ControlAxis("strafe", (("KeyD", 1.0), ("KeyA", -1.0))),
        ControlAxis("turn", (("ArrowRight", 0.7), ("ArrowLeft", -0.7), ("KeyE", 0.7), ("KeyQ", -0.7)), "x", 0.02),
    )
)


class Group(NamedTuple):
    """A context group: slots of the history that one patchify kernel takes together."""

    kind: str
    slots: tuple[int, ...]


def groups() -> list[Group]:
    """The context's groups in the order of the schedule; slots as `History` has them."""
    first = 1 + RECALLED
    return [
        Group("start", (0,)),
        *(Group("s2", (slot,)) for slot in range(2, 1 + RECALLED)),
        Group("s1", (1,)),  # recalled slots come best first
        *(Group("k4", tuple(range(first + start, first + start + 4))) for start in (0, 4, 8, 12)),
        Group("k2", (first + 16, first + 17)),
        Group("k1", (first + 18,)),
    ]


@dataclass(slots=True)
class RoomsState:
    """A session's own memory: its pose, what led there, and the features of context groups."""

    start: Section
    seed: int
    pose: Tensor = field(default_factory=lambda: torch.zeros(3))
    last_pose: Tensor = field(default_factory=lambda: torch.zeros(3))
    last_control: Tensor = field(default_factory=lambda: torch.zeros(3))
    sections: int = 0
    cache: dict[tuple[str, tuple[int, ...]], KV] = field(default_factory=dict)


class Preparation(NamedTuple):
    """What is known of a coming frame from its control and the frames before; B is 1 or that of a batch."""

    control: Tensor  # (B, A)
    pose: Tensor  # (B, 3) where it will be seen from
    base: Tensor  # (B, C, h, w), and the next two: see `views.Preview`
    recalled: Tensor  # (B, C, h, w)
    shares: Tensor  # (B, 2, h, w)


@dataclass(slots=True)
class RoomsJob:
    """One frame being sampled: everything that stays the same over its steps, and the noisy latent."""

    state: RoomsState
    prepared: Preparation
    context: KV  # (depth, 1, m, H, d)
    bias: Tensor  # (1, 1, 1, m + n)
    noisy: Tensor  # (1, C, h, w) float32
    sigmas: list[float]
    step: int = 0

    @property
    def steps_left(self) -> int:
        return len(self.sigmas) - 1 - self.step


class Rooms:
    """WorldModel of the rooms; `load` makes one from a folder of weights."""

    def __init__(
        self, networks: Networks, starts: Tensor, *, steps: int = 2, dtype: torch.dtype = torch.float32
    ) -> None:
        self.device, self.dtype = starts.device, dtype
        for network in networks:
            network.eval()
        self.vae, self.depth = (
            network.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
            for network in (networks.vae, networks.depth)
        )
        self.dit, self.reach, self.starts = networks.dit.to(dtype), networks.reach.float(), starts
        self.camera = self.dit.config.camera
        self._looks = LooksCache(self.vae, self.depth, dtype, self.device)
        self.sigmas = flow_sigmas(steps)
        self.groups = groups()
        size, channels = self.dit.config.latent_size, self.dit.config.latent_channels
        tokens = sum(len(self.dit.pixels(group.kind).cos) for group in self.groups)
        self.spec = ModelSpec(
            name="rooms",
            frame_shape=(FRAME, FRAME),
            frame_rate=15.0,
            latent_shape=(channels, size, size),
            section_latents=1,
            frames_per_latent=1,
            schedule=SCHEDULE,
            context_tokens=tokens,
            num_recalled=RECALLED,
            num_recent=RECENT,
            num_steps=steps,
            feature_size=channels * 16,
            controls=CONTROLS,
            max_batch=16,
            has_pose=True,
        )

    def open(self, *, image: np.ndarray | None = None, prompt: str = "", seed: int = 0) -> RoomsState:  # noqa: ARG002 - no prompts
        latents = self.starts[[seed % len(self.starts)]] if image is None else self._encode(_square(image)[None])
        start = Section(latents.half().cpu().numpy(), np.zeros((1, 3), np.float32))
        return RoomsState(start, seed)

    def resume(self, state: RoomsState, latents: np.ndarray, poses: np.ndarray, *, num_sections: int) -> None:  # noqa: ARG002 - the history has them
        state.pose, state.last_pose = _tensor(poses[-1]), _tensor(poses[-2 if len(poses) > 1 else -1])
        turned = (state.last_pose - state.pose)[2:] / self.camera.turn
        state.last_control = torch.cat([displacement_between(self.camera, state.last_pose, state.pose), turned])
        state.sections = num_sections
        state.cache.clear()

    def set_prompt(self, state: RoomsState, prompt: str) -> None:  # noqa: ARG002 - see the spec
        raise ValueError("the rooms model takes no prompts")

    def expected_poses(self, state: RoomsState, controls: np.ndarray) -> np.ndarray:
        pose, poses = state.pose, []
        for control in torch.from_numpy(np.asarray(controls, np.float32)):
            pose = move(self.camera, pose, control)
            poses.append(pose)
        return torch.stack(poses).numpy()

    @torch.inference_mode()
    def begin(
        self, states: Sequence[RoomsState], controls: Sequence[np.ndarray], histories: Sequence[History]
    ) -> list[RoomsJob]:
        self._encode_missing(states, histories)
        prepared = self.prepare(states, controls, histories)
        parts = [Preparation(*part) for part in zip(*(x.split(1) for x in prepared), strict=True)]
        return [self._begin(*job) for job in zip(states, histories, parts, strict=True)]

    @torch.inference_mode()
    def advance(self, jobs: Sequence[RoomsJob]) -> None:
        jobs = [job for job in jobs if job.steps_left]
        if not jobs:
            return
        sigma = torch.tensor([job.sigmas[job.step] for job in jobs], device=self.device)
        after = torch.tensor([job.sigmas[job.step + 1] for job in jobs], device=self.device)
        noisy = _join([job.noisy for job in jobs])
        control, base, recalled, shares = (
            _join([getattr(job.prepared, name) for job in jobs]).to(self.dtype)
            for name in ("control", "base", "recalled", "shares")
        )
        target = Target(noisy.to(self.dtype), sigma, control, base, recalled, shares)
        context = KV(*(_join(list(part), 1) for part in zip(*(job.context for job in jobs), strict=True)))
        denoised = self.dit(target, context, _join([job.bias for job in jobs]).to(self.dtype)).float()
        for job, latent in zip(jobs, euler_step(noisy, denoised, sigma, after).split(1), strict=True):
            job.noisy = latent
            job.step += 1

    @torch.inference_mode()
    def finish(self, jobs: Sequence[RoomsJob]) -> list[Section]:
        prepared = Preparation(*(torch.cat(part) for part in zip(*(job.prepared for job in jobs), strict=True)))
        return self.commit([job.state for job in jobs], prepared, torch.cat([job.noisy for job in jobs]))

    def commit(self, states: Sequence[RoomsState], prepared: Preparation, latents: Tensor) -> list[Section]:
        """Make `latents` (B, C, h, w) the newest frames of their sessions."""
        sections = []
        for state, control, pose, latent in zip(states, prepared.control, prepared.pose, latents, strict=True):
            state.last_pose, state.pose, state.last_control = state.pose, pose.cpu(), control.cpu()
            state.sections += 1
            sections.append(Section(latent[None].half().cpu().numpy(), state.pose.numpy()[None].copy()))
        return sections

    @torch.inference_mode()
    def prepare(
        self,
        states: Sequence[RoomsState],
        controls: Sequence[np.ndarray],
        histories: Sequence[History],
        *,
        moved: Tensor | None = None,
    ) -> Preparation:
        """Where the controls lead, and what earlier frames show of the view from there.

        `moved` (B, 2) is the displacement in steps, ahead and to the right, for those who know it.
        """
        control = torch.from_numpy(np.stack([rows[-1] for rows in controls]).astype(np.float32)).to(self.device)
        slots = [1 + RECALLED + RECENT - ago for ago in SOURCES_AGO] + list(range(1, 1 + RECALLED))
        poses, valid = (
            torch.from_numpy(np.stack([getattr(history, name)[slots] for history in histories])).to(self.device)
            for name in ("poses", "valid")
        )
        looks = self._looks.of([latent for history in histories for latent in history.latents[slots]])
        images, depths = (part.unflatten(0, valid.shape) for part in looks)
        if moved is None:
            moved = self._reached(states, control, views=(poses, depths, valid))
        pose = torch.stack([state.pose for state in states]).to(self.device)
        pose, edge = move(self.camera, pose, torch.cat([moved, control[:, 2:]], 1)), self.camera.edge
        images = images.float().div(127.5).sub(1)
        shown = preview(self.vae, Sources(relative(poses, pose[:, None]), images, depths, valid), edge=edge)
        return Preparation(control, pose, shown.base.float(), shown.recalled.float(), shown.shares)

    def _reached(self, states: Sequence[RoomsState], control: Tensor, *, views: tuple[Tensor, ...]) -> Tensor:
        """How far `control` (B, A) leads, among what the earlier views (poses, depths, valid) show to stand around."""
        poses, depths, valid = views
        pose = torch.stack([state.pose for state in states]).to(self.device)
        standing = move(self.camera, pose, control * control.new_tensor([0.0, 0.0, 1.0]))
        around = relative(poses, standing[:, None])
        ground = ground_map(around, depths, valid, edge=self.camera.edge, eye=self.camera.height)
        before = torch.stack([state.last_pose for state in states]).to(self.device)
        last = torch.stack([state.last_control for state in states]).to(self.device)
        last = torch.cat([displacement_between(self.camera, before, standing), last], 1)
        return self.reach(ground, control, last)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def decode(self, states: Sequence[RoomsState], sections: Sequence[Section]) -> list[np.ndarray]:  # noqa: ARG002 - no overlap
        latents = np.concatenate([section.latents for section in sections])
        frames = self._looks.of(list(latents)).images.permute(0, 2, 3, 1).cpu().numpy()
        ends = np.cumsum([len(section.latents) for section in sections])[:-1]
        return [np.ascontiguousarray(part) for part in np.split(frames, ends)]

    def encode(self, frames: np.ndarray) -> np.ndarray:
        return self._encode(frames).half().cpu().numpy()

    @torch.inference_mode()
    def features(self, latents: np.ndarray) -> np.ndarray:
        pooled = torch.nn.functional.adaptive_avg_pool2d(_tensor(latents), 4).flatten(1)
        return torch.nn.functional.normalize(pooled, dim=1).numpy()

    @torch.inference_mode()
    def _encode(self, frames: np.ndarray) -> Tensor:
        images = _tensor(frames).to(self.device).permute(0, 3, 1, 2).div(127.5).sub(1)
        latents: Tensor = self.vae.encode(self._channels_last(images)).float()
        return latents

    def _channels_last(self, x: Tensor) -> Tensor:
        return x.to(self.dtype).contiguous(memory_format=torch.channels_last)

    def _encode_missing(self, states: Sequence[RoomsState], histories: Sequence[History]) -> None:
        """Compute the features of all groups that no earlier section of their session has computed."""
        missing: dict[tuple[int, tuple[str, tuple[int, ...]]], np.ndarray] = {}
        for i, (state, history) in enumerate(zip(states, histories, strict=True)):
            for group in self.groups:
                key, slots = _key(group, history), list(group.slots)
                if key in state.cache:
                    state.cache[key] = state.cache.pop(key)  # the one not used for longest stands first
                elif history.valid[slots].all():
                    missing[i, key] = history.latents[slots]
        if not missing:
            return
        tokens: list[Tensor] = []
        phases: list[Phases] = []
        owners: list[Tensor] = []
        for (_, (kind, _)), latents in missing.items():
            tokens.append(self.dit.context_tokens(kind, _tensor(latents).to(self.device, self.dtype)[None]))
            phases.append(self.dit.pixels(kind))
            owners.append(torch.full((tokens[-1].shape[1],), len(owners), device=self.device))
        owner = torch.cat(owners)
        bias = torch.zeros(len(owner), len(owner), dtype=self.dtype, device=self.device)
        bias = bias.masked_fill(owner[:, None] != owner, -torch.inf)
        pixels = Phases(*(torch.cat(part) for part in zip(*phases, strict=True)))
        features = self.dit.context_kv(torch.cat(tokens, 1), pixels, bias)
        lengths = [len(part) for part in owners]
        for (i, key), keys, values in zip(
            missing, features.keys.split(lengths, 2), features.values.split(lengths, 2), strict=True
        ):
            cache = states[i].cache
            cache[key] = KV(keys, values)
            while len(cache) > CACHED_GROUPS:
                del cache[next(iter(cache))]

    def _begin(self, state: RoomsState, history: History, prepared: Preparation) -> RoomsJob:
        context, mask = self._pack(state, history, prepared.pose[0].cpu())
        tokens = len(self.dit.pixels("k1").cos)
        usable = torch.cat([mask, torch.ones(tokens, dtype=torch.bool)]).to(self.device)
        bias = torch.zeros(usable.shape, device=self.device).masked_fill(~usable, -torch.inf)[None, None, None]
        noise = torch.Generator().manual_seed((state.seed * 1_000_003 + state.sections + 1) % 2**63)
        noisy, sigmas = torch.randn(prepared.base.shape, generator=noise).to(self.device), self.sigmas
        if not prepared.control.any():  # nothing moves in this world but the camera: the next frame is this one
            noisy, sigmas = _tensor(history.latents[-1:]).to(self.device), [0.0]
        return RoomsJob(state, prepared, context, bias, noisy, sigmas)

    def _pack(self, state: RoomsState, history: History, pose: Tensor) -> tuple[KV, Tensor]:
        """The context with the phases seen from `pose` (3,), (depth, 1, m, H, d), and which tokens count, (m,)."""
        poses, indices = torch.from_numpy(history.poses), torch.from_numpy(history.indices)
        now = state.sections + 1
        features, phases, usable = [], [], []
        for group in self.groups:
            slots, key = list(group.slots), _key(group, history)
            known = bool(history.valid[slots].all())
            tokens = len(self.dit.pixels(group.kind).cos)
            features.append(state.cache[key] if known else self._no_features(tokens))
            seen_from, age = relative(poses[slots], pose), (now - indices[slots]).float()
            phases.append(self.dit.group_phases(group.kind, seen_from[None], age[None]))
            usable.append(torch.full((tokens,), known))
        kv = KV(*(torch.cat(part, 2) for part in zip(*features, strict=True)))
        return self.dit.rotate_context(
            kv, Phases(*(torch.cat(part, 1) for part in zip(*phases, strict=True)))
        ), torch.cat(usable)

    def _no_features(self, tokens: int) -> KV:
        shape = (self.dit.config.depth, 1, tokens, self.dit.config.width)
        return KV(*(torch.zeros(shape, dtype=self.dtype, device=self.device) for _ in range(2)))


def load(folder: Path = SHIPPED, *, device: str = "cpu", steps: int = 2) -> Rooms:
    """The shipped model, or one from another `folder` of weights, as quick as `device` allows."""
    networks, starts = load_weights(folder, device=device)
    return Rooms(networks, starts, steps=steps, dtype=fast_dtype(device))


def create() -> Rooms:
    """The entry point `rooms`: the shipped model on all cores but one, which encoding and sockets need."""
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
    return load()


def fast_dtype(device: str) -> torch.dtype:
    """bfloat16 where the device multiplies it natively, else float32."""
    if device.startswith("cuda"):
        return torch.bfloat16
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def _key(group: Group, history: History) -> tuple[str, tuple[int, ...]]:
    return group.kind, tuple(int(i) for i in history.indices[list(group.slots)])


def _join(parts: list[Tensor], dim: int = 0) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _tensor(latents: np.ndarray) -> Tensor:
    return torch.from_numpy(latents.astype(np.float32))


def _square(image: np.ndarray) -> np.ndarray:
    """The middle of an image (H, W, 3), resized to the model's frame."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    middle = Image.fromarray(image[top : top + side, left : left + side])
    return np.array(middle.resize((FRAME, FRAME), Image.Resampling.LANCZOS))
