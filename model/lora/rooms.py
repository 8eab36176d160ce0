"""Fine-tune the transformer of `rooms` on recorded episodes: other schedules and orders, +D, and noise on the history.

B sequences, L targets of each, C x h x w one latent.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..drift.alternatives import noise_history, random_sigmas
from ..drift.discretize import CODEBOOK, Codebook, discretize, load_codebook, save_codebook, train_codebook
from ..packing.schedule import Schedule
from ..rooms.tuned import VARIANT, add_kernels_for
from ..rooms.views import Preview
from ..rooms.weights import Networks
from ..rooms.world import SCHEDULE
from ..training.context import Showing, predict, previews, showing_of
from ..training.dit import flow_errors, noised
from ..training.latents import Latents
from ..training.sequences import RECENT, Batch, Drawing, corrupt, draw, noise_like
from ..training.teachers import Teachers, freeze, with_own_depth, with_targets
from .task import LoraTask

LINEARS = r"blocks\.\d+\.(query|key|value|out|up|down)"
SAMPLED = 2_000  # latents that a codebook is made of


@dataclass(frozen=True, slots=True)
class RoomsTraining:
    """What is shown; one of `schedules` for each step. Those with +D need a codebook."""

    schedules: tuple[str, ...] = (SCHEDULE,)
    drawing: Drawing = field(default_factory=Drawing)
    noise: float = 0.0  # DiffusionForcing: each frame of the history at a level of its own, up to this one
    context_noise: float = 0.3  # as the weights were trained, where `noise` is none
    rollouts: tuple[float, ...] = (0.4, 0.35, 0.25)  # chances of 0, 1, 2 … own frames in a row before each target
    ahead: int = 8  # of which the inverted order makes the last first

    def __post_init__(self) -> None:
        if not (self.schedules and 0 <= self.noise <= 1 and self.drawing.targets % self.ahead == 0):
            raise ValueError(f"expected schedules, noise from 0 to 1 and whole stretches of targets, got {self}")


def rooms_task(
    data: Latents, networks: Networks, training: RoomsTraining, *, codebook: Codebook | None = None, seed: int = 0
) -> LoraTask:
    """Adapters in the blocks, and all patchify kernels.

    Raises ScheduleError, LayoutError, and ValueError for a codebook without +D or the other way round.
    """
    discrete = [Schedule.parse(schedule).is_discrete for schedule in training.schedules]
    if any(discrete) != (codebook is not None):
        raise ValueError(
            f"expected a codebook with schedules that end in +D and with no other, got {training.schedules}"
        )
    dit, teachers = networks.dit, Teachers(networks.vae, networks.depth)
    add_kernels_for(networks, training.schedules)
    size = dit.config.latent_size
    showings = [showing_of(schedule, size=size, ahead=training.ahead) for schedule in training.schedules]
    freeze(teachers)
    device = dit.unembed.weight.device

    def loss(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, step))
        generator = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        batch = Batch(*(x.to(device) for x in draw(data, training.drawing, rng)))
        which, own = int(rng.integers(len(showings))), int(rng.choice(len(training.rollouts), p=training.rollouts))
        lesson = Lesson(networks, showings[which], training, codebook if discrete[which] else None)
        return lesson.loss(batch, own=own, generator=generator)

    return LoraTask(dit, LINEARS, loss, {"patchify": dit.patchify})


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One step's way to show the past."""

    networks: Networks
    showing: Showing
    training: RoomsTraining
    codebook: Codebook | None

    def loss(self, batch: Batch, *, own: int, generator: torch.Generator) -> dict[str, Tensor]:
        """As in training from scratch: flow matching in x-prediction, after `own` frames of the model's own."""
        dit, clean = self.networks.dit, batch.clip[:, RECENT:]
        past = self._worn(batch, generator)
        for _ in range(own):
            with torch.no_grad():
                shown, pure = self._previews(past), torch.ones(clean.shape[:2], device=clean.device)
                made = predict(dit, past, self.showing, shown, noisy=noise_like(clean, generator), sigma=pure)
                past = self._coded(with_targets(self._teachers, past, made))
        noisy, sigma = noised(clean, generator)
        with torch.no_grad():
            shown = self._previews(past)
        predicted = predict(dit, past, self.showing, shown, noisy=noisy, sigma=sigma)
        error, loss = flow_errors(predicted, clean, sigma)
        return {"loss": loss, f"own_{own}": error.mean().detach()}

    @property
    def _teachers(self) -> Teachers:
        return Teachers(self.networks.vae, self.networks.depth)

    def _worn(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch as history: noisy, of the codebook's entries, and with the depth that is read from that."""
        if not self.training.noise:
            worn = batch._replace(clip=corrupt(batch.clip, self.training.context_noise, generator))
        else:
            levels = (
                self.training.noise * random_sigmas(*x.shape[:2], generator=generator)
                for x in (batch.clip, batch.memory)
            )
            clip, memory = (
                noise_history(x.transpose(1, 2), sigma=level, generator=generator).transpose(1, 2)
                for x, level in zip((batch.clip, batch.memory), levels, strict=True)
            )
            worn = batch._replace(clip=clip, memory=memory)
        return with_own_depth(self._teachers, self._coded(worn), 1.0, generator)

    def _coded(self, batch: Batch) -> Batch:
        if self.codebook is None:
            return batch
        clip, memory = (
            discretize(x.transpose(1, 2), self.codebook).transpose(1, 2) for x in (batch.clip, batch.memory)
        )
        return batch._replace(clip=clip, memory=memory)

    def _previews(self, past: Batch) -> Preview:
        return previews(self._teachers, past, self.showing, edge=self.networks.dit.config.camera.edge)


def write_variant(folder: Path, training: RoomsTraining) -> None:
    """Say beside the adapters which kernels they have."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / VARIANT).write_text(json.dumps({"schedules": list(training.schedules), "noise": training.noise}) + "\n")


def codebook_in(folder: Path, data: Latents, *, size: int, seed: int = 0) -> Codebook:
    """The codebook of a run: made once, of latents of the episodes, so that a killed run goes on with the same."""
    path = folder / CODEBOOK
    if path.exists():
        return load_codebook(path, channels=data.latents.shape[2])
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(data.latents), size=SAMPLED), rng.integers(data.latents.shape[1], size=SAMPLED)
    latents = torch.from_numpy(data.latents[chosen].astype(np.float32))
    codebook = train_codebook(latents, size=size, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_codebook(codebook, path)
    return codebook
