"""The `rooms` plug-in: a WorldModel that generates one frame per section, in real time on a CPU.

Legend: B jobs, m context tokens, n target tokens, H heads, d head size, C x h x w one latent.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..drift.discretize import CODEBOOK, Codebook, CodebookError, discretize_history, load_codebook
from ..packing.schedule import Schedule
from ..sampling import euler_step, flow_sigmas
from ..threads import use_threads
from ..world_model import ControlAxis, ControlSchema, History, ModelSpec, Section
from .camera import displacement_between, move, moved_along, relative
from .context import Contexts, Shown
from .depth import settled, unhindered
from .dit import KV, Target
from .geometry import ground_map
from .layout import check_live, layout_of
from .looks import LooksCache, unit
from .scouting import GAP
from .scouts import Scouts
from .state import Preparation, RoomsJob, RoomsState
from .tuned import load_tuned
from .views import Pictures, Sources, composed, encoded, seen_from, sharpened, sources_ago
from .weights import SHIPPED, Networks

SCHEDULE = "f1k1f4s2f1s1f16k4f2k2f1k1_g1"
FRAME = 128
NUM_RAYS, HORIZON = 16, 2  # of a sight, and rows above and below the middle of a depth map that it is a mean of
CONTROLS = ControlSchema(
    (
        ControlAxis("move", (("KeyW", 1.0), ("ArrowUp", 1.0), ("KeyS", -1.0), ("ArrowDown", -1.0))),
        ControlAxis("strafe", (("KeyD", 1.0), ("KeyA", -1.0))),
        ControlAxis("turn", (("ArrowRight", 0.7), ("ArrowLeft", -0.7), ("KeyE", 0.7), ("KeyQ", -0.7)), "x", 0.02),
    )
)


class Rooms:
    """WorldModel of the rooms; `load` makes one from a folder of weights."""

    def __init__(
        self,
        networks: Networks,
        starts: Tensor,
        *,
        steps: int = 1,
        dtype: torch.dtype = torch.float32,
        schedule: str = SCHEDULE,
        codebook: Codebook | None = None,
    ) -> None:
        """Kernels of `schedule` that the weights lack are added to them; `codebook` is what a +D schedule needs.

        Raises ScheduleError, LayoutError for a schedule that play cannot follow, and CodebookError.
        """
        parsed = Schedule.parse(schedule)
        check_live(parsed)
        if parsed.is_discrete != (codebook is not None):
            raise CodebookError(
                f"expected a codebook with a schedule that ends in +D and with no other, got {schedule}"
            )
        self.device, self.dtype = starts.device, dtype
        for network in networks:
            network.eval()
        self.vae, self.depth = (
            network.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
            for network in (networks.vae, networks.depth)
        )
        self.dit, self.painter = networks.dit.to(dtype), networks.painter.to(dtype)
        self.reach, self.starts = networks.reach.float(), starts
        self.camera, self.codebook = self.dit.config.camera, codebook
        self.looks = LooksCache(self.vae, self.depth, dtype, self.device)
        self.scouts = Scouts(self.vae, self.painter, self.looks, self.device)
        self.sigmas = flow_sigmas(steps)
        self.sends_scouts = True  # without them, what nobody has seen is made up as it comes into view
        size, channels = self.dit.config.latent_size, self.dit.config.latent_channels
        self.layout = layout_of(parsed, size=size)
        self.dit.add_kernels(self.layout.kernels)
        self.contexts = Contexts(self.dit, dtype=dtype, device=self.device)
        carried = [self.layout.slots - ago for ago in sources_ago(self.layout.recent)]
        self._slots = [*carried, *range(self.layout.starts, self.layout.first_recent)]
        tokens = sum(len(self.dit.pixels(group.kind).cos) for group in self.layout.groups)
        self.spec = ModelSpec(
            name="rooms",
            frame_shape=(FRAME, FRAME),
            frame_rate=15.0,
            latent_shape=(channels, size, size),
            section_latents=1,
            frames_per_latent=1,
            schedule=schedule,
            context_tokens=tokens,
            num_recalled=self.layout.recalled,
            num_recent=self.layout.recent,
            num_steps=steps,
            feature_size=channels * 16,
            controls=CONTROLS,
            max_batch=16,
            has_pose=True,
            num_rays=NUM_RAYS,
            field_of_view=self.camera.fov,
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
        state.scouts, state.scouted = (), -GAP

    def set_prompt(self, state: RoomsState, prompt: str) -> None:  # noqa: ARG002 - see the spec
        raise ValueError("the rooms model takes no prompts")

    def expected_poses(self, state: RoomsState, controls: np.ndarray) -> np.ndarray:
        return moved_along(self.camera, state.pose, torch.from_numpy(np.asarray(controls, np.float32))).numpy()

    @torch.inference_mode()
    def begin(
        self,
        states: Sequence[RoomsState],
        controls: Sequence[np.ndarray],
        histories: Sequence[History],
        *,
        moved: Tensor | None = None,
    ) -> list[RoomsJob]:
        """`moved` is as in `prepare`."""
        seen = (
            histories
            if self.codebook is None
            else [discretize_history(history, self.codebook) for history in histories]
        )
        shown = [Shown(self.layout.groups, *row) for row in zip(seen, (s.cache for s in states), strict=True)]
        prepared = self.prepare(states, controls, seen, moved=moved, scouting=self.sends_scouts)
        jobs = self.start(states, prepared, shown)
        for job, history in zip(jobs, histories, strict=True):
            if not job.state.moves_to(job.prepared.pose[0]):  # nothing moves in this world but the camera
                job.noisy, job.sigmas = _tensor(history.latents[-1:]).to(self.device), [0.0]
        return jobs

    @torch.inference_mode()
    def start(self, states: Sequence[RoomsState], prepared: Preparation, shown: Sequence[Shown]) -> list[RoomsJob]:
        """Jobs for the next frames of `states`, of which all that `prepared` says is known."""
        self.contexts.encode_missing(shown)
        parts = [Preparation(*part) for part in zip(*(x.split(1) for x in prepared), strict=True)]
        jobs = []
        for state, part, own in zip(states, parts, shown, strict=True):
            context, bias = self.contexts.pack(own, pose=part.pose[0].cpu(), now=state.sections + 1)
            noisy = state.noise(self.spec.latent_shape).to(self.device)
            jobs.append(RoomsJob(state, part, context, bias, noisy, self.sigmas))
        return jobs

    @torch.inference_mode()
    def advance(self, jobs: Sequence[RoomsJob]) -> None:
        jobs = [job for job in jobs if job.steps_left]
        if not jobs:
            return
        for job, latent in zip(jobs, self.stepped(jobs, self.denoised(jobs)).split(1), strict=True):
            job.noisy = latent
            job.step += 1

    def denoised(self, jobs: Sequence[RoomsJob]) -> Tensor:
        """What the transformer takes the frames of `jobs`, which have steps left, to be: (B, C, h, w) float32."""
        sigma = torch.tensor([job.sigmas[job.step] for job in jobs], device=self.device)
        noisy = _join([job.noisy for job in jobs])
        control, base, recalled, shares = (
            _join([getattr(job.prepared, name) for job in jobs]).to(self.dtype)
            for name in ("control", "base", "recalled", "shares")
        )
        target = Target(noisy.to(self.dtype), sigma, control, base, recalled, shares)
        context = KV(*(_join(list(part), 1) for part in zip(*(job.context for job in jobs), strict=True)))
        return self.dit(target, context, _join([job.bias for job in jobs]).to(self.dtype)).float()  # type: ignore[no-any-return]

    def stepped(self, jobs: Sequence[RoomsJob], denoised: Tensor) -> Tensor:
        """The frames of `jobs` one step further towards `denoised`, both (B, C, h, w)."""
        sigma, after = (torch.tensor([j.sigmas[j.step + i] for j in jobs], device=self.device) for i in (0, 1))
        return euler_step(_join([job.noisy for job in jobs]), denoised, sigma, after)

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
        scouting: bool = False,
    ) -> Preparation:
        """Where the controls lead, and what earlier frames show of the view from there.

        `moved` (B, 2) is the displacement in steps, ahead and to the right, for those who know it. With `scouting`,
        sessions that would see what nobody has seen send scouts first.
        """
        control = torch.from_numpy(np.stack([rows[-1] for rows in controls]).astype(np.float32)).to(self.device)
        views = self.views(histories, self._slots)
        if moved is None:
            moved = self._reached(states, control, views=views)
        pose = torch.stack([state.pose for state in states]).to(self.device)
        pose = move(self.camera, pose, torch.cat([moved, control[:, 2:]], 1))
        known = composed(seen_from(views, pose), edge=self.camera.edge)
        if scouting:
            return self._preparation(control, pose, self.scouts.sent(states, views, control, pose, known=known))
        return self._preparation(control, pose, self.scouts.filled(states, known, pose))

    def views(self, histories: Sequence[History], slots: Sequence[int]) -> Sources:
        """What `slots` of each history show, at their poses in the world."""
        poses, valid = (
            torch.from_numpy(np.stack([getattr(history, name)[slots] for history in histories])).to(self.device)
            for name in ("poses", "valid")
        )
        looks = self.looks.of([latent for history in histories for latent in history.latents[slots]])
        images, depths = (part.unflatten(0, valid.shape) for part in looks)
        return Sources(poses, unit(images), depths, valid)

    def preview_of(self, views: Sources, *, control: Tensor, pose: Tensor) -> Preparation:
        """What `views` show from `pose` (B, 3), to which `control` (B, A) leads; the first is what it goes on from."""
        return self._preparation(control, pose, composed(seen_from(views, pose), edge=self.camera.edge))

    def _preparation(self, control: Tensor, pose: Tensor, pictures: Pictures) -> Preparation:
        shown = encoded(self.vae, sharpened(pictures))
        return Preparation(control, pose, shown.base.float(), shown.recalled.float(), shown.shares)

    def _reached(self, states: Sequence[RoomsState], control: Tensor, *, views: Sources) -> Tensor:
        """How far `control` (B, A) leads, among what the earlier views show to stand around."""
        poses, _, depths, valid = views
        pose = torch.stack([state.pose for state in states]).to(self.device)
        standing = move(self.camera, pose, control * control.new_tensor([0.0, 0.0, 1.0]))
        around = relative(poses, standing[:, None])
        ground = ground_map(around, depths, valid, edge=self.camera.edge, eye=self.camera.height)
        before = torch.stack([state.last_pose for state in states]).to(self.device)
        last = torch.stack([state.last_control for state in states]).to(self.device)
        went = unhindered(displacement_between(self.camera, before, standing), last)
        last = torch.cat([went, last], 1)
        return settled(self.reach(ground, control, last), control[:, :2])

    @torch.inference_mode()
    def decode(self, states: Sequence[RoomsState], sections: Sequence[Section]) -> list[np.ndarray]:  # noqa: ARG002 - no overlap
        latents = np.concatenate([section.latents for section in sections])
        frames = self.looks.of(list(latents)).images.permute(0, 2, 3, 1).cpu().numpy()
        ends = np.cumsum([len(section.latents) for section in sections])[:-1]
        return [np.ascontiguousarray(part) for part in np.split(frames, ends)]

    def encode(self, frames: np.ndarray) -> np.ndarray:
        return self._encode(frames).half().cpu().numpy()

    @torch.inference_mode()
    def features(self, latents: np.ndarray) -> np.ndarray:
        pooled = torch.nn.functional.adaptive_avg_pool2d(_tensor(latents), 4).flatten(1)
        return torch.nn.functional.normalize(pooled, dim=1).numpy()

    @torch.inference_mode()
    def sight(self, latents: np.ndarray) -> np.ndarray:
        parts = [latents[i : i + self.spec.max_batch] for i in range(0, len(latents), self.spec.max_batch)]
        depths = torch.cat([self.looks.of(list(part)).depths for part in parts]).float()
        middle = depths.shape[1] // 2
        ahead = depths[:, middle - HORIZON : middle + HORIZON].mean(1)
        return torch.nn.functional.adaptive_avg_pool1d(ahead, NUM_RAYS).cpu().numpy()

    @torch.inference_mode()
    def _encode(self, frames: np.ndarray) -> Tensor:
        images = _tensor(frames).to(self.device).permute(0, 3, 1, 2).div(127.5).sub(1)
        latents: Tensor = self.vae.encode(self._channels_last(images)).float()
        return latents

    def _channels_last(self, x: Tensor) -> Tensor:
        return x.to(self.dtype).contiguous(memory_format=torch.channels_last)


def load(
    folder: Path = SHIPPED,
    *,
    device: str = "cpu",
    steps: int = 1,
    schedule: str = SCHEDULE,
    adapters: Path | None = None,
) -> Rooms:
    """The shipped model, or one from another `folder` of weights, as quick as `device` allows.

    `adapters` is a folder that `rewander train lora --model rooms` made. A schedule with +D takes the codebook that
    lies with them, or with the weights; raises CodebookError if there is none.
    """
    networks, starts = load_tuned(folder, adapters, device=device)
    codebook = None
    if Schedule.parse(schedule).is_discrete:
        path = (adapters or folder) / CODEBOOK
        if not path.exists():
            raise CodebookError(f"expected the codebook that the weights were trained with in {path}, for {schedule}")
        codebook = load_codebook(path, channels=networks.dit.config.latent_channels)
    return Rooms(networks, starts, steps=steps, dtype=fast_dtype(device), schedule=schedule, codebook=codebook)


def create(*, weights: str = "", schedule: str = SCHEDULE, adapters: str = "") -> Rooms:
    """The entry point `rooms`: the shipped model, on the cores that encoding and sockets do not need.

    As settings it takes another folder of `weights`, one of `adapters`, and a `schedule`.
    """
    # Each thread that computes in parallel has a team of its own. When there are more threads in all teams than cores,
    # they sleep where they would wait awake, and steps take twice as long: the team that loads must not be one.
    use_threads(1)
    folder = Path(weights) if weights else SHIPPED
    model = load(folder, schedule=schedule, adapters=Path(adapters) if adapters else None)
    use_threads()
    return model


def fast_dtype(device: str) -> torch.dtype:
    """bfloat16 where the device multiplies it faster than float32, else float32."""
    if device.startswith("cuda") or gains_by_bfloat16(torch.cpu.get_capabilities()):
        return torch.bfloat16
    return torch.float32


def gains_by_bfloat16(capabilities: Mapping[str, object]) -> bool:
    """Whether a processor of such `capabilities`, as torch tells them, multiplies bfloat16 faster than float32.

    AVX-512 does on AMD's. On Intel's it takes tiles (AMX), which virtual machines may hide: without them products take
    1.5 to 2 times as long as in float32 and frames 1.2 times, and where bfloat16 is emulated products take 4 times.
    """
    has_vectors = bool(capabilities.get("avx512_bf16")) and "Intel" not in str(capabilities.get("cpu_name"))
    return has_vectors or any(bool(capabilities.get(name)) for name in ("amx_bf16", "bf16"))


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
