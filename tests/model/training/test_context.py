"""Any schedule in training is shown as play and offline orders show it; the shipped one as play: see `test_world`."""

import numpy as np
import pytest
import torch

from model.drift.orders import Clip, forward, inverted
from model.packing.schedule import Schedule
from model.rooms.camera import Camera
from model.rooms.layout import LayoutError
from model.rooms.offline import Offline, Treatment
from model.rooms.tuned import add_kernels_for
from model.rooms.weights import Networks
from model.rooms.world import SCHEDULE, Rooms
from model.training.context import Showing, packed_context, predict, previews, shipped, showing_of
from model.training.polish import ALONG
from model.training.sequences import RECALLED, RECENT, Batch, Drawing, draw
from model.training.teachers import TEACHING, Teachers
from tests.model.rooms.small import networks

from .episodes import data

FORWARD = ("td_f3k1_g1", "td_f8k8f4k4f2k2f1k1_g1", "f1k1f16k4f2k2f1k1_g1")
INVERTED = "f16k4f2k2f1k1_x_g1_f1k1f2k2f16k4_td"
TARGETS = 4


def showing(name: str, ahead: int = 4) -> Showing:
    return showing_of(name, size=16, ahead=ahead)


def frozen(made: Networks) -> Teachers:
    return Teachers(made.vae.to(TEACHING), made.depth.to(TEACHING))


def drawn() -> Batch:
    return draw(data(), Drawing(batch=2, targets=TARGETS, recall_dropout=0.0), np.random.default_rng(3))


def test_a_camera_at_rest_previews_the_frame_before() -> None:
    """The base of every target is then the latent before it, as the VAE decodes and encodes it."""
    teachers, one = frozen(networks()), drawn()
    one = one._replace(poses=torch.zeros_like(one.poses), frames=one.frames.clamp(min=0))
    with torch.no_grad():
        shown = previews(teachers, one, shipped(16), edge=Camera().edge)
        before = one.clip[:, RECENT - 1 : -1].flatten(0, 1).to(TEACHING)
        expected = teachers.vae.encode(teachers.vae.decode(before).clamp(-1, 1)).float()
    assert (shown.base - expected).norm() < 0.05 * expected.norm()
    assert (shown.shares[:, 0] == 1).all()


@pytest.mark.parametrize("name", [SCHEDULE, *FORWARD])
def test_a_target_is_shown_the_same_alone_as_among_others(name: str) -> None:
    """In float32: many targets share what is encoded, and each must still have its own past."""
    made, many = networks(), drawn()
    add_kernels_for(made, [name])
    teachers = frozen(made)
    with torch.no_grad():
        among, bias = packed_context(made.dit, many, showing(name))
        carried = previews(teachers, many, showing(name), edge=Camera().edge)
        for i in range(TARGETS):
            one = many._replace(**{part: getattr(many, part)[:, i : i + RECENT + 1] for part in ALONG})
            alone, own_bias = packed_context(made.dit, one, showing(name))
            rows = torch.arange(len(many.clip)) * TARGETS + i
            for ours, theirs in zip((*among, bias[None]), (*alone, own_bias[None]), strict=True):
                torch.testing.assert_close(ours[:, rows], theirs, atol=1e-5, rtol=1e-5)
            shown = previews(teachers, one, showing(name), edge=Camera().edge)
            for ours, theirs in zip(carried, shown, strict=True):
                assert (ours[rows] - theirs).norm() <= 0.01 * theirs.norm()  # the teachers are in bfloat16


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
    teachers = frozen(made)
    made.dit.float()
    noisy = torch.cat([noises[RECENT + i] for i in range(TARGETS)])[None]
    with torch.no_grad():
        shown = previews(teachers, batch, showing(name), edge=Camera().edge)
        trained = predict(made.dit, batch, showing(name), shown, noisy=noisy, sigma=torch.ones(1, TARGETS))
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
