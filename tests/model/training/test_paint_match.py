"""The painter's matching: where the student is led, and when it learns."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.rooms.dit import DiT, Target
from model.training.loop import Run
from model.training.paint import Painting, Predict
from model.training.paint_match import Distilled, Matching, match_painter, matching_loss
from tests.model.rooms.small import networks
from tests.model.training.episodes import data
from tests.model.training.test_paint import PAINTING, right_half, teachers


def pull(real: float, fake: float) -> tuple[float, Tensor]:
    """The loss of frames that are 0 throughout, and its gradient, where teacher and fake see other values."""
    frames = torch.zeros(4, 16, 16, 16, requires_grad=True)

    def seeing(value: float) -> Predict:
        def see(target: Target) -> Tensor:
            return torch.full_like(target.noisy, value)

        return see

    generator = torch.Generator().manual_seed(0)
    loss = matching_loss(seeing(real), seeing(fake), frames, right_half(4), PAINTING, generator)
    loss.backward()
    assert frames.grad is not None
    return float(loss.detach()), frames.grad


def test_frames_are_led_from_the_fake_to_the_teacher() -> None:
    loss, gradient = pull(real=2.0, fake=1.0)
    assert loss == pytest.approx(0.5 * (1 / 2) ** 2)  # half the square of 1, held against the 2 that they are off
    assert (gradient < 0).all()
    unseen, seen = gradient[..., 0], gradient[..., -1]
    assert float(unseen.mean() / seen.mean()) == pytest.approx(11.0)
    assert (pull(real=1.0, fake=2.0)[1] > 0).all()
    assert pull(real=1.5, fake=1.5)[0] == 0.0


def test_steps_grow_no_longer_near_the_teacher() -> None:
    assert pull(real=0.01, fake=0.0)[0] == pytest.approx(0.5 * (0.01 / 0.05) ** 2)
    assert [pull(real=real, fake=0.0)[0] for real in (0.1, 1.0)] == pytest.approx([0.5, 0.5])


def matched(folder: Path, matching: Matching, *, steps: int, seed: int = 0) -> DiT:
    painters = Distilled(*(networks(seed=seed).painter for _ in range(2)))
    return match_painter(data(frames=120), painters, teachers(), Run(folder, steps), matching)


def test_the_student_stands_still_until_the_fake_knows_it(tmp_path: Path) -> None:
    before = networks().painter.embed.weight
    chosen = Matching(replace(PAINTING, frames=4), still=3, each=2, own=0.25)
    assert torch.equal(matched(tmp_path / "4", chosen, steps=4).embed.weight, before)
    assert not torch.equal(matched(tmp_path / "5", chosen, steps=5).embed.weight, before)


def test_matching_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    chosen = Matching(replace(PAINTING, frames=4), rate=1e-2, still=0, own=0.25)
    first, again = (matched(tmp_path, chosen, steps=2, seed=seed).embed.weight for seed in (0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, networks().painter.embed.weight)


def test_walks_without_news_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected walks that show something new"):
        matched(tmp_path, Matching(Painting(PAINTING.drawing, unknown=(0.999, 1.0))), steps=1)
