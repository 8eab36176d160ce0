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
from .camera import move, relative
from .dit import KV, Phases, Target
from .motion import Preview
from .weights import SHIPPED, Networks, load_weights

SCHEDULE = "f1k1f4s2f1s1f16k4f2k2f1k1_g1"
RECALLED = 5  # 4 at s2, then the best at s1
RECENT = 19
FRAME = 128
CACHED_GROUPS = 128

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
    """A session's own memory: its pose, the newest latent and the features of context groups."""

    start: Section
    seed: int
    pose: Tensor  # (3,) float32
    latest: Tensor  # (C, h, w)
    last: Tensor  # (5,): how far the last control led (2) and that control (3)
    sections: int = 0
    cache: dict[tuple[str, tuple[int, ...]], KV] = field(default_factory=dict)


@dataclass(slots=True)
class RoomsJob:
    """One frame being sampled: everything that stays the same over its steps, and the noisy latent."""

    state: RoomsState
    control: Tensor  # (1, A)
    base: Tensor  # (1, C, h, w)
    seen: Tensor  # (1, 1, h, w)
    query: Phases  # (1, n, P)
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
        self.vae = networks.vae.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.motion = networks.motion.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dit, self.odometry, self.starts = networks.dit.to(dtype), networks.odometry.float(), starts
        self.camera = self.dit.config.camera
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
        latent = self.starts[seed % len(self.starts)] if image is None else self._encode(_square(image)[None])[0]
        start = Section(latent.half().cpu().numpy()[None], np.zeros((1, 3), np.float32))
        return RoomsState(start, seed, torch.zeros(3), _tensor(start.latents[0]).to(self.device), torch.zeros(5))

    def resume(self, state: RoomsState, latents: np.ndarray, poses: np.ndarray, *, num_sections: int) -> None:
        state.latest = _tensor(latents[-1]).to(self.device)
        state.pose = _tensor(poses[-1])
        state.last = torch.zeros(5)
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
        control = torch.from_numpy(np.stack([rows[-1] for rows in controls]).astype(np.float32)).to(self.device)
        previous = self._channels_last(torch.stack([state.latest for state in states]))
        last = torch.stack([state.last for state in states])
        preview = self.motion.preview(
            self.camera, self.vae, previous, control.to(self.dtype), last.to(self.device, self.dtype)
        )
        parts = zip(control.split(1), *(part.float().split(1) for part in preview), strict=True)
        return [
            self._begin(state, history, control, Preview(*rest))
            for state, history, (control, *rest) in zip(states, histories, parts, strict=True)
        ]

    @torch.inference_mode()
    def advance(self, jobs: Sequence[RoomsJob]) -> None:
        jobs = [job for job in jobs if job.steps_left]
        if not jobs:
            return
        sigma = torch.tensor([job.sigmas[job.step] for job in jobs], device=self.device)
        after = torch.tensor([job.sigmas[job.step + 1] for job in jobs], device=self.device)
        noisy = _join([job.noisy for job in jobs])
        control, base, seen = (
            _join([getattr(job, name) for job in jobs]).to(self.dtype) for name in ("control", "base", "seen")
        )
        query = Phases(*(_join(list(part)) for part in zip(*(job.query for job in jobs), strict=True)))
        target = Target(noisy.to(self.dtype), sigma, control, base, seen, query)
        context = KV(*(_join(list(part), 1) for part in zip(*(job.context for job in jobs), strict=True)))
        denoised = self.dit(target, context, _join([job.bias for job in jobs]).to(self.dtype)).float()
        for job, latent in zip(jobs, euler_step(noisy, denoised, sigma, after).split(1), strict=True):
            job.noisy = latent
            job.step += 1

    @torch.inference_mode()
    def finish(self, jobs: Sequence[RoomsJob]) -> list[Section]:
        latents = torch.cat([job.noisy for job in jobs]).half().float()
        controls = torch.cat([job.control for job in jobs])
        previous = torch.stack([job.state.latest for job in jobs])
        moved = torch.cat([self.odometry(self.camera, previous, latents, controls), controls[:, 2:]], 1).cpu()
        sections = []
        for job, latent, control in zip(jobs, latents, moved, strict=True):
            job.state.pose = move(self.camera, job.state.pose, control)
            job.state.latest = latent
            job.state.last = torch.cat([control[:2], job.control[0].cpu()])
            job.state.sections += 1
            sections.append(Section(latent[None].half().cpu().numpy(), job.state.pose.numpy()[None].copy()))
        return sections

    @torch.inference_mode()
    def decode(self, states: Sequence[RoomsState], sections: Sequence[Section]) -> list[np.ndarray]:  # noqa: ARG002 - no overlap
        latents = torch.cat([_tensor(section.latents) for section in sections]).to(self.device)
        images = self.vae.decode(self._channels_last(latents)).float()
        frames = images.add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
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

    def _begin(self, state: RoomsState, history: History, control: Tensor, preview: Preview) -> RoomsJob:
        context, mask = self._pack(state, history)
        steps = torch.cat([preview.displacement, control[:, 2:]], 1)[0].cpu()
        expected = relative(move(self.camera, state.pose, steps), state.pose)
        noise = torch.Generator().manual_seed((state.seed * 1_000_003 + state.sections + 1) % 2**63)
        query = self.dit.group_phases("k1", expected[None, None], torch.zeros(1, 1))
        usable = torch.cat([mask, torch.ones(query.cos.shape[1], dtype=torch.bool)]).to(self.device)
        bias = torch.zeros(usable.shape, device=self.device).masked_fill(~usable, -torch.inf)[None, None, None]
        noisy, sigmas = torch.randn(preview.base.shape, generator=noise).to(self.device), self.sigmas
        if not control.any():  # nothing moves in this world but the camera: the next frame is this one
            noisy, sigmas = state.latest[None], [0.0]
        return RoomsJob(state, control, preview.base, preview.seen, query, context, bias, noisy, sigmas)

    def _pack(self, state: RoomsState, history: History) -> tuple[KV, Tensor]:
        """The context with the phases of the state's camera, (depth, 1, m, H, d), and which tokens count, (m,)."""
        poses, indices = torch.from_numpy(history.poses), torch.from_numpy(history.indices)
        now = state.sections + 1
        features, phases, usable = [], [], []
        for group in self.groups:
            slots, key = list(group.slots), _key(group, history)
            known = bool(history.valid[slots].all())
            tokens = len(self.dit.pixels(group.kind).cos)
            features.append(state.cache[key] if known else self._no_features(tokens))
            seen_from, age = relative(poses[slots], state.pose), (now - indices[slots]).float()
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
