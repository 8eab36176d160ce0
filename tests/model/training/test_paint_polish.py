"""The painter's polishing: where its own ways lead, what goes on from what, and who learns from what."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.rooms.scouting import STEPS, known, paint
from model.training.critic import Contest, Critic
from model.training.loop import Run
from model.training.paint_polish import PaintPolishing, contest_loss, going_on, on_the_way, polish_painter, predicted
from tests.model.rooms.small import networks
from tests.model.training.episodes import data
from tests.model.training.test_paint import PAINTING, right_half, teachers

TRAINING = PaintPolishing(PAINTING)


def contest() -> Contest:
    torch.manual_seed(0)
    return Contest(networks().painter, Critic(width=16))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_ways_are_those_of_play() -> None:
    painter, shown = networks().painter, right_half(3 * STEPS)
    ways = on_the_way(painter, shown, shown.clean, generator())
    noise = torch.randn(ways.noisy.shape, generator=generator())
    first = ways.sigma == 1
    assert int(first.sum()) == int(ways.is_last.sum()) == 3
    torch.testing.assert_close(ways.noisy[first], noise[first])
    made = predicted(painter, shown, ways.noisy, ways.sigma)
    played = paint(painter, shown.base, shown.shares, noise=noise)
    torch.testing.assert_close(made[ways.is_last], played[ways.is_last], atol=0.1, rtol=0.1)  # bfloat16


def test_some_frames_go_on_from_what_was_painted() -> None:
    shown, painted = right_half(10), [torch.full((16, 16, 16), float(i)) for i in range(3)]
    rng = np.random.default_rng(0)
    on, goal = going_on(shown, painted, 0.3, rng=rng)
    assert torch.equal(on.base[:7], shown.base[:7])
    assert torch.equal(goal[:7], shown.clean[:7])
    assert {float(one.unique()) for one in goal[7:]} <= {0.0, 1.0, 2.0}
    assert torch.equal(on.base[7:], goal[7:] * known(shown.shares[7:]))
    assert torch.equal(on.clean, shown.clean)  # which the critic takes for real
    same, goal = going_on(shown, painted, 0.4, rng=rng)
    assert torch.equal(same.base, shown.base)
    assert torch.equal(goal, shown.clean)


def test_fooling_the_critic_teaches_the_painter_alone() -> None:
    both, shown = contest(), right_half(6)
    ways = on_the_way(both.dit, shown, shown.clean, generator())

    def learnt(fooling: float) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        both.zero_grad()
        training = replace(TRAINING, fooling=fooling)
        losses, made = contest_loss(both, both.dit, shown, ways, training, generator=generator())
        losses["loss"].backward()
        assert not made.requires_grad
        painter, critic = ([p.grad.clone() for p in side.parameters()] for side in (both.dit, both.critic))
        return painter, critic

    (painter, critic), (unmoved, same) = learnt(2.0), learnt(0.0)
    for one, two in zip(critic, same, strict=True):
        torch.testing.assert_close(one, two)
    assert any(bool(grad.any()) for grad in critic)
    assert not any(torch.allclose(one, two) for one, two in zip(painter, unmoved, strict=True) if one.any())


def test_what_is_known_is_held() -> None:
    """The squared error counts where something is known, and not where nothing is."""
    both, shown = contest(), right_half(6)
    ways = on_the_way(both.dit, shown, shown.clean, generator())

    def truth(goal: torch.Tensor) -> float:
        losses, _ = contest_loss(both, both.dit, shown, ways._replace(goal=goal), TRAINING, generator=generator())
        return float(losses["truth"])

    made = predicted(both.dit, shown, ways.noisy, ways.sigma).detach()
    elsewhere = made.clone()
    elsewhere[..., :8] += 1.0
    assert truth(made) == truth(elsewhere) == 0
    assert truth(made + 0.5) == pytest.approx(0.25 * np.exp(-0.5), rel=1e-3)


def test_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    run, recorded, training = Run(tmp_path, steps=2), data(frames=120), replace(TRAINING, own=0.2)
    first = polish_painter(recorded, networks().painter, teachers(), run, training)
    again = polish_painter(recorded, networks(seed=1).painter, teachers(), run, training)
    for one, two in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first.embed.weight, networks().painter.embed.weight)
