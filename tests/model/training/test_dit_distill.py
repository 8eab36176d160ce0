"""The transformer's distilling: what the student begins with, what it is shown and what it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from model.rooms.dit import DiT, DiTConfig, Target
from model.rooms.views import Preview
from model.training.dit_distill import DiTDistilling, apart, borrow, distill_dit, distilling_loss, taught, together
from model.training.loop import Run
from model.training.paint_match import Distilled
from model.training.polish import Polishing, Sequences, start
from model.training.sequences import RECENT, Drawing, draw
from model.training.teachers import TEACHING, Teachers
from tests.model.rooms.small import DIT, networks
from tests.model.training.episodes import data

POLISHING = Polishing(Drawing(batch=1, targets=4, recall_dropout=0.0), pool=1, stride=2)
TRAINING = DiTDistilling(POLISHING, every=1, lessons=4)


def dits(depth: int = 1) -> Distilled:
    torch.manual_seed(1)
    return Distilled(DiT(DiTConfig(width=DIT.width, depth=depth, context_depth=1)), networks().dit)


def teachers() -> Teachers:
    made = networks()
    return Teachers(made.vae.to(TEACHING), made.depth.to(TEACHING))


def sequences(batch: int = 2) -> Sequences:
    drawing = Drawing(batch=batch, targets=4, recall_dropout=0.0)
    drawn = draw(data(), drawing, np.random.default_rng(3))
    return start(teachers(), drawn, POLISHING, torch.Generator().manual_seed(0))


def test_a_student_begins_with_the_base_and_the_blocks_of_its_teacher() -> None:
    student, teacher = DiT(DiTConfig(width=64, depth=3, context_depth=1)), DiT(DiTConfig(width=64, depth=8))
    borrow(student, teacher)
    for mine, theirs in zip(student.blocks, (0, 4, 7), strict=True):
        assert torch.equal(mine.up.weight, teacher.blocks[theirs].up.weight)
    assert torch.equal(student.patchify["k4"].weight, teacher.patchify["k4"].weight)
    base = torch.randn(1, 16, 16, 16)
    target = Target(base, torch.ones(1), torch.zeros(1, 3), base, base, torch.ones(1, 2, 16, 16))
    assert torch.equal(student(target), base)


def test_what_it_goes_on_from_is_its_own() -> None:
    both, given = dits(), sequences()
    borrow(both.student, both.teacher)  # it makes the base
    lesson, batch = taught(both, teachers(), given)
    base = lesson.shown.base.view_as(given.clean)
    torch.testing.assert_close(batch.clip[:, RECENT:], base)
    assert not torch.allclose(lesson.goal, base, atol=0.01)
    assert torch.equal(batch.clip[:, :RECENT], given.batch.clip[:, :RECENT])


def test_lessons_are_kept_sequence_by_sequence() -> None:
    lesson, _ = taught(dits(), teachers(), sequences())
    again = together(apart(lesson))
    for kept, one in zip((*again.shown, again.goal), (*lesson.shown, lesson.goal), strict=True):
        assert torch.equal(kept, one)
    swapped = together(apart(lesson)[::-1])
    assert torch.equal(swapped.sequences.noise, lesson.sequences.noise.flip(0))
    assert torch.equal(swapped.shown.base.unflatten(0, (2, 4)), lesson.shown.base.unflatten(0, (2, 4)).flip(0))


def test_softer_frames_cost_more_than_as_far_off_but_as_strong_ones() -> None:
    both = dits()
    lesson, _ = taught(both, teachers(), sequences())
    with torch.no_grad():
        assert float(distilling_loss(both.teacher, lesson, 1.0)["loss"]) < 1e-6
    base = torch.zeros_like(lesson.shown.base)
    still = lesson._replace(shown=Preview(base, base, lesson.shown.shares))
    borrow(both.student, both.teacher)
    flat = distilling_loss(both.student, still, 1.0)
    assert float(flat["sharpness"]) < -1
    assert float(flat["loss"].detach()) > float(flat["error"]) + 1


def test_the_student_comes_near_its_teacher(tmp_path: Path) -> None:
    """From the base, which is all that it begins with."""
    both = dits(depth=2)
    run, often = Run(tmp_path, steps=16, warmup=1, ema=0.5), replace(TRAINING, rate=4e-3, every=4)
    made = distill_dit(data(), both, teachers(), run, often)
    lesson, _ = taught(Distilled(made, both.teacher), teachers(), sequences())
    found = distilling_loss(made, lesson, 0.0)
    assert float(found["error"]) < 0.8 * float(found["added"])


def test_distilling_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path, steps=2)
    first = distill_dit(data(), dits(), teachers(), run, TRAINING).unembed.weight
    others = Distilled(dits().student, networks(seed=5).dit)
    assert torch.equal(distill_dit(data(), others, teachers(), run, TRAINING).unembed.weight, first)
    assert first.any()  # it began with none
