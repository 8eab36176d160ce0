"""Scouts: where they go, what is painted, and what a session makes of it."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model.evaluation.rollout import history_at, rollout, sample
from model.rooms.camera import Camera
from model.rooms.looks import LooksCache
from model.rooms.scouting import GAP, NEWS, SCOUTS, TURNED, Scout, ahead, blanked, flat, known, news, paint, views_of
from model.rooms.state import RoomsState
from model.rooms.world import Rooms
from tests.model.rooms.small import networks, rooms
from tests.model.rooms.test_world import record


def shown(num: int = 2) -> tuple[Tensor, Tensor]:
    """A base and its shares, of which the right half is known, and the rows at the top a little."""
    shares = torch.zeros(num, 2, 16, 16)
    shares[:, 0, :, 8:], shares[:, 1, :4, :8] = 1.0, 0.25
    return torch.randn(num, 16, 16, 16), shares


def test_news_are_what_neither_frames_nor_memory_show() -> None:
    shares = torch.zeros(2, 2, 16, 16)
    shares[0, 0, :, :8], shares[0, 1, :, 4:12] = 1.0, 1.0
    assert news(shares).tolist() == [0.25, 1.0]


@pytest.mark.parametrize(("turn", "degrees"), [(1.0, -36), (0.7, -33.6), (0.1, -24), (-0.1, 24), (-1.0, 36), (0.0, 0)])
def test_a_scout_looks_ahead_of_a_turn(turn: float, degrees: float) -> None:
    there = ahead(Camera(), torch.tensor([[1.0, 2.0, 0.3]]), torch.tensor([[0.0, 0.0, turn]]), moved=torch.zeros(1, 2))
    assert math.degrees(float(there[0, 2]) - 0.3) == pytest.approx(degrees, abs=1e-3)
    assert there[0, :2].tolist() == [1.0, 2.0]


def test_a_scout_goes_no_farther_than_the_camera_gets() -> None:
    control = torch.tensor([[1.0, 0.0, 0.0]]).expand(2, 3)
    there = ahead(Camera(), torch.zeros(2, 3), control, moved=torch.tensor([[0.5, 0.0], [0.0, 0.0]]))
    assert 0.2 < float(there[0, 0]) < 0.6
    assert there[1].tolist() == [0.0, 0.0, 0.0]


def test_what_is_not_known_is_blanked() -> None:
    base, shares = shown()
    left = blanked(base, shares)
    assert torch.equal(left[..., 8:], base[..., 8:])
    assert torch.equal(left[:, :, :4, :8], 0.5 * base[:, :, :4, :8])
    assert not left[:, :, 4:, :8].any()
    assert known(shares).shape == (2, 1, 16, 16)


def test_painting_follows_its_noise_and_what_is_known_and_nothing_else() -> None:
    painter, (base, shares), noise = networks().painter.eval(), shown(), torch.randn(2, 16, 16, 16)
    made = paint(painter, base, shares, noise=noise)
    assert made.shape == (2, 16, 16, 16)
    hidden = base.clone()
    hidden[:, :, 4:, :8] = 7.0  # where nothing is known
    assert torch.equal(paint(painter, hidden, shares, noise=noise), made)
    assert not torch.allclose(paint(painter, base, shares, noise=torch.randn_like(noise)), made, atol=1e-2)
    assert not torch.allclose(paint(painter, -base, shares, noise=noise), made, atol=1e-2)


def test_from_a_bare_wall_follows_a_place_of_its_own() -> None:
    painter, (base, shares), noise = networks().painter.eval(), shown(), torch.randn(2, 16, 16, 16)
    base[1] = 2.0 + 0.1 * torch.randn(16, 16, 16)
    base[1, :, 4:, :8] = 50.0 * torch.randn(16, 12, 8)  # where nothing is known
    assert flat(base, shares).tolist() == [False, True]
    made, nothing = (paint(painter, base, known, noise=noise) for known in (shares, torch.zeros_like(shares)))
    assert not torch.allclose(made[0], nothing[0], atol=1e-2)
    torch.testing.assert_close(made[1], nothing[1])


def test_sessions_without_scouts_show_none() -> None:
    made = networks()
    looks = LooksCache(made.vae, made.depth, torch.float32, torch.device("cpu"))
    scout = Scout(np.zeros((16, 16, 16), np.float16), torch.tensor([1.0, 2.0, 3.0]))
    assert views_of([(), ()], looks, device=torch.device("cpu")) is None
    views = views_of([(scout,), ()], looks, device=torch.device("cpu"))
    assert views is not None
    assert views.valid.tolist() == [[True] + [False] * (SCOUTS - 1), [False] * SCOUTS]
    assert views.poses[0, 0].tolist() == [1.0, 2.0, 3.0]
    assert views.images.shape[:2] == views.depths.shape[:2] == (2, SCOUTS)


def turned(model: Rooms, control: tuple[float, float, float], frames: int) -> RoomsState:
    one = record(60)
    one.controls[30:] = control
    state = model.open(seed=0)
    model.resume(state, one.latents[:30], one.poses[:30], num_sections=29)
    for now in range(30, 30 + frames):
        (section,) = sample(model, [state], [one.controls[now : now + 1]], [history_at(model.spec, one, now, ())])
        one.latents[now], one.poses[now] = section.latents[0], section.poses[0]
    return state


def test_who_turns_into_the_unknown_sends_scouts_and_keeps_few() -> None:
    state = turned(rooms(), (0.0, 0.0, 0.8), 3 * GAP)
    assert len(state.scouts) == SCOUTS
    assert state.sections - GAP <= state.scouted < state.sections
    away = float(state.scouts[-1].pose[2] - state.pose[2])
    assert -TURNED[1] <= away < TURNED[1]


def test_who_stands_sends_none() -> None:
    assert turned(rooms(), (0.0, 0.0, 0.0), 4).scouts == ()


def test_what_a_scout_saw_is_known() -> None:
    model, one = rooms(), record(60)
    one.controls[30:] = (0.0, 0.0, 1.0)
    state = model.open(seed=0)
    model.resume(state, one.latents[:30], one.poses[:30], num_sections=29)
    asked = [one.controls[30:31]], [history_at(model.spec, one, 30, ())]
    before = model.prepare([state], *asked)
    assert float(news(before.shares)) > NEWS
    (job,) = model.begin([state], *asked)
    assert float(news(job.prepared.shares)) < float(news(before.shares)) / 2
    seen = before.shares.amax(1) == 1
    assert torch.equal(job.prepared.pose, before.pose)
    changed = (job.prepared.base - before.base).abs().mean(1)
    assert changed[~seen].mean() > 4 * changed[seen].mean()


def test_a_resumed_session_sends_new_ones() -> None:
    model, one = rooms(), record(60)
    state = turned(model, (0.0, 0.0, 0.8), 2)
    assert state.scouts
    model.resume(state, one.latents[:30], one.poses[:30], num_sections=29)
    assert state.scouts == ()
    one.controls[30:] = (0.0, 0.0, 0.8)
    _, frames = rollout(model, [one], first=30, frames=2)
    _, again = rollout(model, [one], first=30, frames=2)
    assert np.array_equal(frames, again)
