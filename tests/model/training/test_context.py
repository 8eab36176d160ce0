"""Any schedule in training: the shipped one is shown as before, and every one as play and offline orders show it."""

import numpy as np
import pytest
import torch

from model.drift.orders import Clip, forward, inverted
from model.packing.schedule import Schedule
from model.rooms.camera import Camera
from model.rooms.layout import LayoutError
from model.rooms.offline import Offline, Treatment
from model.rooms.world import SCHEDULE, Rooms
from model.training.context import Showing, predict_shown, previews_shown, showing_of
from model.training.dit import TEACHING, Teachers, predict, previews
from model.training.sequences import RECALLED, RECENT, Batch, Drawing, draw
from tests.model.rooms.small import networks

from .episodes import data

FORWARD = ("td_f3k1_g1", "td_f8k8f4k4f2k2f1k1_g1", "f1k1f16k4f2k2f1k1_g1")
INVERTED = "f16k4f2k2f1k1_x_g1_f1k1f2k2f16k4_td"
TARGETS = 4


def showing(name: str, ahead: int = 4) -> Showing:
    return showing_of(name, size=16, ahead=ahead)


def test_the_shipped_schedule_is_shown_as_it_was() -> None:
    made = networks()
    teachers = Teachers(made.vae.to(TEACHING), made.depth.to(TEACHING))
    batch = draw(data(), Drawing(batch=2, targets=4, recall_dropout=0.0), np.random.default_rng(3))
    noisy, sigma = torch.randn_like(batch.clip[:, RECENT:]), torch.rand(2, 4)
    with torch.no_grad():
        old = previews(teachers, batch, Camera().edge)
        new = previews_shown(teachers, batch, showing(SCHEDULE), Camera().edge)
        for one, other in zip(old, new, strict=True):
            assert (one - other).norm() < 0.01 * one.norm()
        expected = predict(made.dit, batch, old, noisy, sigma)
        found = predict_shown(made.dit, batch, showing(SCHEDULE), old, noisy=noisy, sigma=sigma)
    change = expected - old.base.unflatten(0, sigma.shape)
    assert (found - expected).norm() < 0.02 * change.norm()  # bfloat16 sums in another order


@pytest.mark.parametrize("name", [*FORWARD, INVERTED])
def test_training_and_offline_orders_see_the_same(name: str) -> None:
    """Every target of a batch whose clip is what an offline plan has made so far."""
    made, rng = networks(), np.random.default_rng(0)
    total = RECENT + TARGETS
    latents = rng.standard_normal((total, 16, 16, 16)).astype(np.float16)
    controls = rng.uniform(-1, 1, (total, 3)).astype(np.float32)
    poses = np.cumsum(rng.normal(0, 0.1, (total, 3)), 0).astype(np.float32)
    model = Rooms(made, torch.zeros(1, 16, 16, 16), steps=1)
    offline = Offline(model, Schedule.parse(name), Treatment())
    walk = offline.walk(latents, controls, poses, seed=0)
    offline.show(walk, range(RECENT))
    order = inverted if "_x_" in name else forward
    noises = {}
    for sampling in order(Schedule.parse(name), Clip(TARGETS, given=RECENT)):
        [target] = sampling.target
        noises[target] = torch.randn(
            1, 16, 16, 16, generator=torch.Generator().manual_seed((walk.state.seed * 1_000_003 + target) % 2**63)
        )
        offline.make([walk], sampling)
    batch = batch_of(made, walk.latents, controls, poses)
    teachers = Teachers(made.vae.to(TEACHING), made.depth.to(TEACHING))
    made.dit.float()
    noisy = torch.cat([noises[RECENT + i] for i in range(TARGETS)])[None]
    with torch.no_grad():
        shown = previews_shown(teachers, batch, showing(name), Camera().edge)
        trained = predict_shown(made.dit, batch, showing(name), shown, noisy=noisy, sigma=torch.ones(1, TARGETS))
    played = torch.from_numpy(walk.latents[RECENT:].astype(np.float32))
    change = played - shown.base
    for i in range(TARGETS):
        assert (trained[0, i] - played[i]).norm() < 0.1 * change[i].norm(), i


def batch_of(made, latents: np.ndarray, controls: np.ndarray, poses: np.ndarray) -> Batch:
    pictures = torch.from_numpy(latents.astype(np.float32))
    with torch.inference_mode():
        depths = made.depth(pictures).clone()
    memory = [0] * (1 + RECALLED)
    times = torch.arange(len(latents))
    whole = (pictures, depths, torch.from_numpy(controls), torch.from_numpy(poses), times)
    kept = (pictures, depths, torch.from_numpy(poses), times)
    valid = torch.tensor([[True] + [False] * RECALLED])
    return Batch(*(x[None] for x in whole), *(x[memory][None] for x in kept), valid, torch.zeros(1), torch.ones(1))


def test_stretches_of_the_inverted_order() -> None:
    shown = showing("f2k1_x_g1_f1k1f1k1_td")
    past, near, far = (shown.frames_of(slots, 8) - RECENT for slots in ((1, 2), (3,), (4,)))
    assert past[:5].tolist() == [[-2, -1]] * 4 + [[2, 3]]
    none = -1 - RECENT
    assert near[:, 0].tolist() == [1, 2, 3, none, 5, 6, 7, none]
    assert far[:, 0].tolist() == [2, 3, none, none, 6, 7, none, none]
    carried = shown.carried(8) - RECENT
    assert carried[0].tolist()[:2] == [-1, 1]
    assert carried[3][0] == -1 and carried[2][0] == 3
    assert carried[4][0] == 3


def test_schedules_that_a_batch_cannot_show_are_refused() -> None:
    for name in ("f20k1_g1", "f6s2f1k1_g1", "ta_f3k1_g1", "f3k1_g2"):
        with pytest.raises(LayoutError, match=name):
            showing(name)
