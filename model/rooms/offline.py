"""Frames of a walk whose controls and poses are known beforehand, made in any order by a plan of indices.

What is nearest in time, before or after, is carried to the target's camera as play carries the frame before; what else
is shown, on either side, fills in as recalled frames do. Ages are true distances in time: `rooms` need not be told
others. Slots are those of `layout`, and what has left them comes last.

Legend: B walks, T latents of each, C x h x w one latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ..drift.alternatives import guide, noise_history, without_history
from ..drift.discretize import Codebook, discretize
from ..drift.orders import EMPTY, Sampling
from ..packing.schedule import Schedule
from ..world_model import History
from .context import Shown
from .layout import layout_of, role_of, tail_groups
from .state import Preparation, RoomsJob, RoomsState
from .views import SOURCES_AGO
from .world import Rooms


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is done to the history before the model sees it, and to what it then predicts."""

    codebook: Codebook | None = None  # +D
    noise: float = 0.0  # DiffusionForcing's sigma_test
    pictures: bool = True  # the pictures that are carried to the target are of treated latents too
    guidance: float = 1.0  # of the packed history; 1 is none


@dataclass(slots=True, eq=False)
class Walk:
    """One clip. Latents that are there already are put in by `Offline.show`, made ones by `Offline.make`."""

    latents: np.ndarray  # (T, C, h, w) float16
    controls: np.ndarray  # (T, A) float32, each leading to its latent
    poses: np.ndarray  # (T, 3) float32
    state: RoomsState
    treated: np.ndarray = field(init=False)  # like latents

    def __post_init__(self) -> None:
        self.treated = np.zeros_like(self.latents)


Row = tuple[Walk, np.ndarray]  # and the latent in each of its slots


class Offline:
    """Makes latents of walks side by side, all by the same plan."""

    def __init__(self, model: Rooms, schedule: Schedule, treatment: Treatment) -> None:
        """Kernels that the weights lack are added to them; raises LayoutError for ones that do not fit."""
        self._model, self._schedule, self._treatment = model, schedule, treatment
        self.layout = layout_of(schedule, size=model.dit.config.latent_size)
        model.dit.add_kernels(self.layout.kernels)

    def walk(self, latents: np.ndarray, controls: np.ndarray, poses: np.ndarray, *, seed: int) -> Walk:
        """A clip that has no latents yet but those that `show` shows of `latents`."""
        return Walk(latents.copy(), controls, poses, self._model.open(seed=seed))

    def tokens(self, *, tail: int = 0) -> int:
        """Of the context when `tail` latents have left its slots."""
        groups = [*self.layout.groups, *tail_groups(self._schedule, range(tail))]
        return sum(len(self._model.dit.pixels(group.kind).cos) for group in groups)

    @torch.inference_mode()
    def show(self, walk: Walk, indices: Sequence[int]) -> None:
        """Let the model see these latents of a walk from now on."""
        for index in indices:
            latent = torch.from_numpy(walk.latents[index].astype(np.float32))[None, :, None]
            if self._treatment.codebook is not None:
                latent = discretize(latent, self._treatment.codebook)
            if self._treatment.noise:
                generator = torch.Generator().manual_seed((walk.state.seed * 1_000_003 + index) % 2**63 ^ 1)
                latent = noise_history(latent, sigma=self._treatment.noise, generator=generator)
            walk.treated[index] = latent[0, :, 0].half().numpy()

    @torch.inference_mode()
    def make(self, walks: Sequence[Walk], sampling: Sampling, *, recalled: Sequence[Sequence[int]] = ()) -> None:
        """One sampling: each of its targets after one context. `recalled` are latents for each walk, best first."""
        memories = recalled or [()] * len(walks)
        for target in sampling.target:
            sources = [self._sources(sampling, found) for found in memories]
            for walk, latent in zip(walks, self._make(walks, sampling, sources, target), strict=True):
                walk.latents[target] = latent
        for walk in walks:
            self.show(walk, sampling.target)

    def _make(
        self, walks: Sequence[Walk], sampling: Sampling, sources: Sequence[np.ndarray], target: int
    ) -> list[np.ndarray]:
        nearest = self._carried(sources[0], target)
        carried = int(sources[0][nearest[0]])
        still = [bool((walk.poses[carried] == walk.poses[target]).all()) for walk in walks]
        rows = [(w, s) for w, s, stands in zip(walks, sources, still, strict=True) if not stands]
        made = iter(self._denoise(rows, sampling, nearest, target) if rows else ())
        return [w.latents[carried] if stands else next(made) for w, stands in zip(walks, still, strict=True)]

    def _denoise(self, rows: Sequence[Row], sampling: Sampling, nearest: list[int], target: int) -> list[np.ndarray]:
        groups = [*self.layout.groups, *tail_groups(self._schedule, range(self.layout.slots, len(rows[0][1])))]
        shown = [Shown(groups, _history(walk, walk.treated, own), walk.state.cache) for walk, own in rows]
        states = [walk.state for walk, _ in rows]
        for state in states:
            state.sections = target - 1  # of which the noise and the ages follow
        jobs = self._model.start(states, self._prepare(rows, nearest, target), shown)
        self._sample(jobs, [] if self._treatment.guidance == 1 else self._blanks(jobs, shown, rows, sampling))
        return [job.noisy[0].half().cpu().numpy() for job in jobs]

    def _sample(self, jobs: Sequence[RoomsJob], blanks: Sequence[RoomsJob]) -> None:
        """Take `jobs` through their steps, away from what their `blanks` predict if there are any."""
        while jobs[0].steps_left:
            denoised = self._model.denoised(jobs)
            if blanks:
                same = [replace(b, noisy=j.noisy, step=j.step) for b, j in zip(blanks, jobs, strict=True)]
                denoised = guide(denoised, self._model.denoised(same), scale=self._treatment.guidance)
            for job, latent in zip(jobs, self._model.stepped(jobs, denoised).split(1), strict=True):
                job.noisy = latent
                job.step += 1

    def _blanks(
        self, jobs: Sequence[RoomsJob], shown: Sequence[Shown], rows: Sequence[Row], sampling: Sampling
    ) -> list[RoomsJob]:
        """The same jobs without the packed history; what is carried to the target stays, or nothing would."""
        unseen, blanks = self._sources(without_history(sampling), ()), []
        for job, one, (walk, _) in zip(jobs, shown, rows, strict=True):
            hidden = Shown(self.layout.groups, _history(walk, walk.treated, unseen), one.cache)
            pose, now = job.prepared.pose[0].cpu(), walk.state.sections + 1
            context, bias = self._model.contexts.pack(hidden, pose=pose, now=now)
            blanks.append(replace(job, context=context, bias=bias))
        return blanks

    def _prepare(self, rows: Sequence[Row], nearest: list[int], target: int) -> Preparation:
        device, layout = self._model.device, self.layout
        slots = [*nearest, *range(layout.starts, layout.first_recent)]
        histories = [_history(w, w.treated if self._treatment.pictures else w.latents, own) for w, own in rows]
        control, pose = (
            torch.from_numpy(np.stack([part[target] for part in parts])).float().to(device)
            for parts in ([walk.controls for walk, _ in rows], [walk.poses for walk, _ in rows])
        )
        return self._model.preview_of(self._model.views(histories, slots), control=control, pose=pose)

    def _sources(self, sampling: Sampling, recalled: Sequence[int]) -> np.ndarray:
        """The latent in each slot of the layout, EMPTY where there is none, then what has left them."""
        layout = self.layout
        found: dict[str, list[int]] = {"start": [], "recent": [], "future": []}
        for view in sampling.context:
            role = role_of(self._schedule, view.place)
            if role != "recalled":
                found[role] += view.sources
        memories = [*recalled[: layout.recalled], *[EMPTY] * (layout.recalled - len(recalled))]
        start = found["start"] or [EMPTY]
        return np.array([*start, *memories, *found["recent"], *found["future"], *sampling.tail.sources])

    def _carried(self, sources: np.ndarray, target: int) -> list[int]:
        """Slots whose pictures are carried to the target, the nearest in time first: up to three on either side."""
        slots = [s for s in range(self.layout.first_recent, self.layout.slots) if sources[s] != EMPTY]
        assert slots, "a plan shows the newest latent there is, whatever else it leaves out"
        chosen: list[int] = []
        for side in (-1, 1):
            away = sorted((side * (int(sources[s]) - target), s) for s in slots)
            there = [(distance, slot) for distance, slot in away if distance > 0]
            for ago in SOURCES_AGO if there else ():
                chosen.append(next((slot for distance, slot in there if distance >= ago), there[-1][1]))
        return sorted(dict.fromkeys(chosen), key=lambda s: abs(int(sources[s]) - target))


def _history(walk: Walk, latents: np.ndarray, sources: np.ndarray) -> History:
    valid = sources != EMPTY
    indices = np.where(valid, sources, 0)
    return History(
        latents=np.where(valid[:, None, None, None], latents[indices], np.float16(0)),
        indices=indices.astype(np.int64),
        poses=np.where(valid[:, None], walk.poses[indices], np.float32(0)),
        valid=valid,
    )
