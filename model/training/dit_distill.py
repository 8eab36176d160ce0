"""Distill the polished transformer of `rooms` into one of fewer blocks, quick enough for play: the same frames.

As in polishing, sequences stay in a pool for many rounds, so that the student learns what its teacher would make after
frames of the student's own (on-policy distillation, arXiv 2306.13649), of previews sharpened as at play.

Legend: B sequences, L targets of each, C x h x w one latent.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..rooms.dit import DiT
from ..rooms.views import Preview
from .context import predict, previews, shipped
from .dit import optimizers_of
from .latents import Latents
from .loop import Run, fit
from .paint_match import Distilled
from .polish import Polishing, Pool, Sequences, fine_energy, joined, select, start
from .sequences import Batch, Drawing, draw
from .teachers import Teachers, freeze, with_targets


@dataclass(frozen=True, slots=True)
class DiTDistilling:
    """How the distilling is done; `polishing` says what both are shown."""

    polishing: Polishing = field(
        default_factory=lambda: Polishing(Drawing(batch=1, recall_dropout=0.3, strides=(1, 1, 1, 2, 4)))
    )
    rate: float = 1e-3
    batch: int = 2  # sequences of a step
    every: int = 3  # steps from one batch of the teacher to the next
    lessons: int = 96  # that are kept, each used several times
    strength: float = 0.03  # weight of how far the strength of detail is from the teacher's


class Lesson(NamedTuple):
    """Sequences, what their targets are shown, and what the teacher makes of that."""

    sequences: Sequences
    shown: Preview  # of B*L targets
    goal: Tensor  # (B, L, C, h, w)


def distill_dit(
    data: Latents, dits: Distilled, teachers: Teachers, run: Run, distilling: DiTDistilling, *, seed: int = 0
) -> DiT:
    """Train the student to make the frames that its teacher makes in one step; returns the EMA model."""
    freeze(teachers)
    student, teacher = dits.student, dits.teacher.eval().requires_grad_(False)
    borrow(student, teacher)
    polishing, device = distilling.polishing, student.unembed.weight.device
    pool, lessons = Pool(data, size=polishing.pool, stride=polishing.stride), list[Lesson]()

    def loss(_model: nn.Module, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((seed, step))
        generator = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        if step % distilling.every == 0 or not lessons:
            batch = Batch(*(x.to(device) for x in draw(data, polishing.drawing, rng)))
            new = start(teachers, batch, polishing, generator)
            sequences = joined([new, *pool.take(len(new.clean), rng)])
            lesson, made = taught(dits, teachers, sequences)
            pool.put(sequences._replace(batch=made, rounds=sequences.rounds + 1), rng)
            lessons.extend(apart(lesson))
            del lessons[: -distilling.lessons]
        drawn = [lessons[i] for i in rng.integers(len(lessons), size=distilling.batch)]
        return distilling_loss(student, together(drawn), distilling.strength)

    ema = fit(run, student, optimizers=optimizers_of(student, distilling.rate), loss=loss)
    assert isinstance(ema, DiT)
    return ema


@torch.no_grad()
def borrow(student: DiT, teacher: DiT) -> None:
    """Let the student begin with the teacher's weights, with blocks from its first to its last, and with the base.

    Blocks that never met misread each other: begun with the teacher's last layer too, the student is ten times farther
    off than the base at first, and after 100 steps still behind one that begins with nothing to add.
    """
    kept = torch.linspace(0, len(teacher.blocks) - 1, len(student.blocks)).round().int().tolist()
    state = {name: value for name, value in teacher.state_dict().items() if not name.startswith("blocks.")}
    for mine, theirs in enumerate(kept):
        state |= {f"blocks.{mine}.{name}": value for name, value in teacher.blocks[theirs].state_dict().items()}
    student.load_state_dict(state)
    for parameter in student.unembed.parameters():
        parameter.zero_()


@torch.no_grad()
def taught(dits: Distilled, teachers: Teachers, sequences: Sequences) -> tuple[Lesson, Batch]:
    """What the teacher makes of `sequences`, and the batch that goes on from what the student makes of them."""
    config = dits.teacher.config
    shown = previews(teachers, sequences.batch, shipped(config.latent_size), edge=config.camera.edge, sharpening=True)
    goal, made = (_frames(model, sequences, shown) for model in (dits.teacher, dits.student))
    return Lesson(sequences, shown, goal), with_targets(teachers, sequences.batch, made)


def distilling_loss(student: DiT, lesson: Lesson, strength: float) -> dict[str, Tensor]:
    """Squared error of the student's frames, and how far the strength of their detail is from the teacher's.

    What errs least is softer than what it should be, and frames that follow frames add that up.
    """
    made = _frames(student, lesson.sequences, lesson.shown)
    error = (made - lesson.goal).square().mean()
    added = (lesson.goal - lesson.shown.base.view_as(lesson.goal)).square().mean()
    softer = (fine_energy(made) / fine_energy(lesson.goal)).log()
    return {
        "loss": error + strength * softer.abs().mean(),
        "error": error.detach(),
        "added": added,
        "sharpness": softer.detach().mean(),
    }


def apart(lesson: Lesson) -> list[Lesson]:
    """One for each sequence."""
    parts = (x.chunk(len(lesson.goal)) for x in lesson.shown)
    shown = [Preview(*row) for row in zip(*parts, strict=True)]
    return [Lesson(select(lesson.sequences, i), shown[i], lesson.goal[i : i + 1]) for i in range(len(shown))]


def together(lessons: list[Lesson]) -> Lesson:
    shown = Preview(*(torch.cat(x) for x in zip(*(lesson.shown for lesson in lessons), strict=True)))
    goal = torch.cat([lesson.goal for lesson in lessons])
    return Lesson(joined([lesson.sequences for lesson in lessons]), shown, goal)


def _frames(model: DiT, sequences: Sequences, shown: Preview) -> Tensor:
    """What `model` makes of noise in the one step of play: (B, L, C, h, w)."""
    pure = torch.ones(sequences.clean.shape[:2], device=sequences.clean.device)
    showing = shipped(model.config.latent_size)
    return predict(model, sequences.batch, showing, shown, noisy=sequences.noise, sigma=pure)
