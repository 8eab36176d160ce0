"""The painter's distilling: where its own ways lead, what goes on from what, and what it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.rooms.dit import Target
from model.rooms.scouting import STEPS, known, paint
from model.training.loop import Run
from model.training.paint import Painting, predicted
from model.training.paint_distill import (
    Distilling,
    Painters,
    distill_painter,
    distilling_loss,
    going_on,
    on_the_way,
    taught,
)
from tests.model.rooms.small import networks
from tests.model.training.episodes import data
from tests.model.training.test_paint import PAINTING, right_half, teachers


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_ways_are_those_of_play() -> None:
    painter, shown, noise = networks().painter, right_half(3 * STEPS), torch.randn(3 * STEPS, 16, 16, 16)
    at = on_the_way(painter, shown, noise, generator())
    first = at.sigma == 1
    assert int(first.sum()) == int(at.is_last.sum()) == 3
    assert torch.equal(at.noisy[first], noise[first])
    made = predicted(painter, at.noisy, at.sigma, shown)
    played = paint(painter, shown.base, shown.shares, noise=noise)
    torch.testing.assert_close(made[at.is_last], played[at.is_last], atol=0.1, rtol=0.1)  # bfloat16


def test_the_teacher_goes_all_the_way() -> None:
    """Where all of its steps see one picture, that is where it gets to; what it is shown stays with the pair."""
    shown, levels = right_half(4), []

    def predict(target: Target) -> torch.Tensor:
        levels.append(float(target.sigma[0]))
        return shown.clean

    pairs = taught(predict, shown, 5, generator())
    assert len(pairs) == 4
    assert len(levels) == 5
    assert levels[0] == 1
    assert levels == sorted(levels, reverse=True)
    for one, clean, base in zip(pairs, shown.clean, shown.base, strict=True):
        torch.testing.assert_close(one.goal.clean, clean)
        assert torch.equal(one.goal.base, base)
    assert not torch.equal(pairs[0].noise, pairs[1].noise)


def test_some_frames_go_on_from_what_was_painted() -> None:
    shown, painted = right_half(10), [torch.full((16, 16, 16), float(i)) for i in range(1, 4)]
    rng = np.random.default_rng(0)
    on = going_on(shown, painted, 0.3, rng=rng)
    assert torch.equal(on.base[:7], shown.base[:7])
    for base, shares in zip(on.base[7:], on.shares[7:], strict=True):
        value = float(base.amax())
        assert value in {1.0, 2.0, 3.0}
        assert torch.equal(base, value * known(shares[None])[0].expand_as(base))
    assert going_on(shown, painted, 0.4, rng=rng) is shown


def test_the_student_learns_what_the_teacher_made() -> None:
    painter, goal, noise = networks().painter, right_half(2 * STEPS), torch.randn(2 * STEPS, 16, 16, 16)
    losses, made = distilling_loss(painter, painter, goal, noise, generator())
    assert made.shape == (2, 16, 16, 16)
    assert not made.requires_grad
    losses["loss"].backward()
    assert [name for name, p in painter.named_parameters() if p.grad is None] == []
    right, _ = distilling_loss(painter, lambda _target: goal.clean, goal, noise, generator())
    off, _ = distilling_loss(painter, lambda _target: goal.clean + 0.5, goal, noise, generator())
    assert (float(right["loss"]), float(off["loss"])) == (0.0, pytest.approx(0.25))


def test_guidance_leads_away_from_the_early_painter(tmp_path: Path) -> None:
    """The student of a guided teacher gets elsewhere; that of one like its early self does not."""
    recorded = data(frames=120)

    def student(guidance: float, early_seed: int) -> torch.Tensor:
        chosen = Distilling(PAINTING, frames=4, steps=2, guidance=guidance, own=0.0)
        made = Painters(networks().painter, networks().painter, networks(seed=early_seed).painter)
        run = Run(tmp_path / f"{guidance}{early_seed}", steps=1)
        return distill_painter(recorded, made, teachers(), run, chosen).embed.weight

    plain, same, guided = student(0.0, 1), student(1.0, 0), student(1.0, 1)
    torch.testing.assert_close(same, plain)
    assert not torch.allclose(guided, plain)


def test_distilling_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    chosen = Distilling(replace(PAINTING, frames=4), frames=4, steps=2, every=1, own=0.25)
    run, recorded = Run(tmp_path, steps=2), data(frames=120)

    def distilled(seed: int) -> torch.Tensor:
        made = Painters(*(networks(seed=seed).painter for _ in range(3)))
        return distill_painter(recorded, made, teachers(), run, chosen).embed.weight

    assert torch.equal(distilled(0), distilled(1))
    assert not torch.equal(distilled(0), networks().painter.embed.weight)


def test_walks_without_news_are_refused(tmp_path: Path) -> None:
    chosen = Distilling(Painting(PAINTING.drawing, unknown=(0.999, 1.0)))
    made = Painters(*(networks().painter for _ in range(3)))
    with pytest.raises(ValueError, match="expected walks that show something new"):
        distill_painter(data(), made, teachers(), Run(tmp_path, steps=1), chosen)
