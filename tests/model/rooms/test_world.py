import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from model.drift.discretize import Codebook, CodebookError, discretize, discretize_history, save_codebook
from model.evaluation.rollout import Record, history_at, rollout, sample
from model.packing.schedule import ScheduleError
from model.rooms.context import CACHED_GROUPS
from model.rooms.depth import Depth
from model.rooms.dit import Target
from model.rooms.layout import Group, LayoutError
from model.rooms.state import RoomsState
from model.rooms.weights import save_weights
from model.rooms.world import SCHEDULE, Rooms, gains_by_bfloat16, load
from model.training.context import predict, previews, shipped
from model.training.sequences import RECENT, Batch
from model.training.teachers import TEACHING, Teachers
from model.world_model import Section
from tests.model.rooms.small import networks, rooms

RECALLED = 5
SHIPPED_GROUPS = (  # as they stood in the code before schedules could be chosen
    Group("start", (0,)),
    *(Group("s2", (slot,)) for slot in (2, 3, 4, 5)),
    Group("s1", (1,)),
    *(Group("k4", tuple(range(first, first + 4))) for first in (6, 10, 14, 18)),
    Group("k2", (22, 23)),
    Group("k1", (24,)),
)
SMALL_SCHEDULES = (
    "f3k1_g1",
    "f1k1f16k4f2k2f1k1_g1",
    "td_f1k1h16w16f1k1h8w16f1k1h8w8f1k1h4w8f1k1h4w4f1k1h2w4f1k1_g1",
    "td_f2k1h16w16f2k1h8w8f2k1h4w4f1k1_g1",
    "td_f8k8f4k4f2k2f1k1_g1",
)


def record(frames: int = 40, seed: int = 0) -> Record:
    """Random pictures along a random walk."""
    rng = np.random.default_rng(seed)
    return Record(
        rng.standard_normal((frames, 16, 16, 16)).astype(np.float16),
        rng.uniform(-1, 1, (frames, 3)).astype(np.float32),
        np.cumsum(rng.normal(0, 0.1, (frames, 3)), 0).astype(np.float32),
    )


def step(model: Rooms, record: Record, now: int, recalled: Sequence[int] = (), seed: int = 0) -> Section:
    state = model.open(seed=seed)
    model.resume(state, record.latents[:now], record.poses[:now], num_sections=now - 1)
    return sample(model, [state], [record.controls[now : now + 1]], [history_at(model.spec, record, now, recalled)])[0]


def test_spec_counts_the_tokens_of_its_schedule() -> None:
    model = rooms()
    assert model.spec.context_tokens == 64 + 4 * 16 + 64 + 4 * 4 + 16 + 64
    assert model.layout.groups == SHIPPED_GROUPS
    assert (model.spec.num_recalled, model.spec.num_recent) == (RECALLED, 19)


def other(schedule: str, *, codebook: Codebook | None = None) -> Rooms:
    return Rooms(networks(), torch.randn(3, 16, 16, 16), schedule=schedule, codebook=codebook)


@pytest.mark.parametrize("schedule", SMALL_SCHEDULES)
def test_other_schedules_play_and_see_no_more_than_they_show(schedule: str) -> None:
    model, one, hidden = other(schedule), record(), record(seed=1)
    first = 30 - model.spec.num_recent
    for part, noise in ((one.latents, hidden.latents), (one.poses, hidden.poses)):
        shown, unseen = part[first:30].copy(), noise[first - 1 : first]
        made = step(model, one, 30)
        part[1:first] = unseen
        assert np.array_equal(step(model, one, 30).latents, made.latents)
        part[first:30] = shown * 0.5
        assert not np.array_equal(step(model, one, 30).latents, made.latents)


def test_play_refuses_schedules_that_it_cannot_follow() -> None:
    for name in ("f3k1_g2", "ta_f3k1_g1", "f3k1_g1_x_f1k1", "f1k1_x_g1_f3k1_td", "f1k1f2k2f16k4f2k2f1k1_g1"):
        with pytest.raises(LayoutError, match="vanilla schedule"):
            other(name)
    with pytest.raises(LayoutError, match="divide latents of 16 x 16.*f1k16"):
        other("f1k16f1k1_g1")
    with pytest.raises(ScheduleError):
        other("f3q1_g1")


def test_a_discrete_schedule_shows_entries_of_its_codebook() -> None:
    codebook = Codebook(torch.randn(4, 16))
    model, one = other(SCHEDULE + "+D", codebook=codebook), record()
    history = discretize_history(history_at(model.spec, one, 10, ()), codebook)
    pixels = torch.from_numpy(history.latents).float().movedim(1, -1)
    nearest = torch.cdist(pixels.flatten(0, 2), codebook.entries).min(1).values.view(25, -1).amax(1)
    assert (nearest[history.valid] < 1e-2).all()
    assert not history.latents[~history.valid].any()
    made = step(model, one, 30)
    pixels = torch.from_numpy(one.latents.astype(np.float32)).movedim(0, 1)[None]
    one.latents = discretize(pixels, codebook)[0].movedim(1, 0).numpy().astype(np.float16)
    assert np.array_equal(step(other(SCHEDULE), one, 30).latents, made.latents)
    assert made.latents.std() > 0


def test_a_discrete_schedule_takes_the_codebook_of_the_weights(tmp_path: Path) -> None:
    save_weights(tmp_path, networks()._replace(depth=Depth()), torch.randn(2, 16, 16, 16))
    with pytest.raises(CodebookError, match="codebook.safetensors"):
        load(tmp_path, schedule=SCHEDULE + "+D")
    save_codebook(Codebook(torch.randn(4, 16)), tmp_path / "codebook.safetensors")
    loaded = load(tmp_path, schedule=SCHEDULE + "+D")
    assert loaded.codebook is not None and loaded.codebook.entries.shape == (4, 16)
    with pytest.raises(CodebookError, match="no other"):
        other(SCHEDULE, codebook=loaded.codebook)


def test_same_seed_gives_the_same_bits() -> None:
    one, two = (step(rooms(), record(), 30, (3, 9)) for _ in range(2))
    assert np.array_equal(one.latents, two.latents)
    assert np.array_equal(one.poses, two.poses)
    assert not np.array_equal(one.latents, step(rooms(), record(), 30, (3, 9), seed=1).latents)


def test_a_session_does_not_depend_on_who_else_is_in_the_batch() -> None:
    """Within 1e-3 of latents of unit variance: shapes of products differ, and with them their rounding."""
    model, records = rooms(), [record(seed=i) for i in range(3)]
    states = [model.open(seed=i) for i in range(3)]
    for state, one in zip(states, records, strict=True):
        model.resume(state, one.latents[:30], one.poses[:30], num_sections=29)
    histories = [history_at(model.spec, one, 30, (2, 5)) for one in records]
    together = sample(model, states, [one.controls[30:31] for one in records], histories)
    for i, section in enumerate(together):
        alone = step(model, records[i], 30, (2, 5), seed=i)
        np.testing.assert_allclose(section.latents, alone.latents, atol=2e-3)


def test_jobs_at_different_steps_share_a_batch() -> None:
    model, one = rooms(), record()
    histories, controls = [history_at(model.spec, one, 30, ())], [one.controls[30:31]]

    def begun() -> list[object]:
        state = model.open(seed=0)
        model.resume(state, one.latents[:30], one.poses[:30], num_sections=29)
        return model.begin([state], controls, histories)

    early, late = begun(), begun()
    model.advance(early)
    model.advance([*early, *late])
    model.advance([*early, *late])  # early has none left and stays as it is
    first, second = model.finish([*early, *late])
    np.testing.assert_allclose(first.latents, second.latents, atol=2e-3)


def test_empty_slots_do_not_matter_and_recalled_ones_do() -> None:
    model, one = rooms(), record()
    history = history_at(model.spec, one, 30, ())
    state = model.open(seed=0)
    model.resume(state, one.latents[:30], one.poses[:30], num_sections=29)
    history.latents[1 : 1 + RECALLED] = 7.0
    noisy = sample(model, [state], [one.controls[30:31]], [history])[0]
    assert np.array_equal(noisy.latents, step(model, one, 30).latents)
    assert not np.array_equal(noisy.latents, step(model, one, 30, (4,)).latents)


def test_features_of_context_are_kept_and_bounded() -> None:
    model, one = rooms(), record(frames=60)
    state = model.open(seed=0)
    for now in range(1, 60):
        recalled = tuple(range(max(1, now - 40), max(1, now - 5), 3))[:RECALLED]
        sample(model, [state], [one.controls[now : now + 1]], [history_at(model.spec, one, now, recalled)])
        assert len(state.cache) <= CACHED_GROUPS
    assert ("start", (0,)) in state.cache


def test_resume_continues_where_the_session_was() -> None:
    model, one = rooms(), record()
    state = model.open(seed=5)
    sections = []
    for now in range(1, 6):
        sections += sample(model, [state], [one.controls[now : now + 1]], [history_at(model.spec, one, now, ())])
        one.latents[now], one.poses[now] = sections[-1].latents[0], sections[-1].poses[0]
    again = model.open(seed=5)
    model.resume(again, one.latents[:6], one.poses[:6], num_sections=5)
    assert torch.equal(again.pose, state.pose)
    assert torch.equal(again.last_pose, state.last_pose)
    assert again.sections == state.sections
    assert again.last_control[2] == pytest.approx(float(state.last_control[2]), abs=1e-4)
    went = again.last_control[:2].norm()  # what the camera did; a wall may have stopped the command
    assert 0 < went <= state.last_control[:2].norm() + 1e-4


def test_a_camera_at_rest_keeps_its_picture() -> None:
    model, one = rooms(), record()
    one.controls[30:] = 0
    (done,), frames = rollout(model, [one], first=30, frames=4)
    assert np.array_equal(done.latents[33], one.latents[29])
    assert np.array_equal(done.poses[33], one.poses[29])
    assert (frames == frames[:, :1]).all()


def creeping(_ground: torch.Tensor, control: torch.Tensor, _last: torch.Tensor) -> torch.Tensor:
    """A fifth of what is commanded."""
    return 0.2 * control[:, :2]


def test_a_camera_that_a_wall_stops_keeps_its_picture() -> None:
    model, one = rooms(), record()
    one.controls[30:] = (0.6, 0.0, 0.0)
    model.reach.forward = creeping  # type: ignore[method-assign]
    (done,), _ = rollout(model, [one], first=30, frames=2)
    assert np.array_equal(done.latents[31], one.latents[29])
    one.controls[30:, 2] = 0.5  # it can still look around
    (done,), _ = rollout(model, [one], first=30, frames=2)
    assert not np.array_equal(done.latents[30], one.latents[29])


def test_a_camera_does_not_stand_because_it_stood() -> None:
    model, one, told = rooms(), record(), []

    def reach(_ground: torch.Tensor, _control: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        told.append(last[0].tolist())
        return torch.zeros(1, 2)

    one.controls[30:] = (0.6, 0.0, 0.0)
    model.reach.forward = reach  # type: ignore[method-assign]
    rollout(model, [one], first=30, frames=3)
    assert told[1][:2] == told[2][:2] == pytest.approx([0.6, 0.0])


def test_the_start_is_the_image_in_its_middle() -> None:
    model = rooms()
    image = np.zeros((90, 200, 3), np.uint8)
    image[:, 55:145] = np.random.default_rng(0).integers(0, 255, (90, 90, 3))
    wide, square = model.open(image=image), model.open(image=image[:, 55:145])
    assert np.array_equal(wide.start.latents, square.start.latents)
    assert wide.start.latents.shape == (1, 16, 16, 16)


def test_expected_poses_walk_ahead() -> None:
    model = rooms()
    state = model.open(seed=0)
    poses = model.expected_poses(state, np.tile(np.float32([1, 0, 0]), (3, 1)))
    np.testing.assert_allclose(poses[:, 0], [0.16, 0.32, 0.48], rtol=1e-5)


def test_decode_gives_each_session_its_frames() -> None:
    model = rooms()
    sections = [Section(record(seed=i).latents[:1], np.zeros((1, 3), np.float32)) for i in range(2)]
    frames = model.decode([None, None], sections)
    assert [part.shape for part in frames] == [(1, 128, 128, 3)] * 2
    assert frames[0].dtype == np.uint8
    assert not np.array_equal(frames[0], frames[1])
    np.testing.assert_allclose(frames[1].astype(int), model.decode([None], sections[1:])[0], atol=1)


def test_features_are_unit_vectors_that_tell_latents_apart() -> None:
    features = rooms().features(record().latents[:4])
    assert features.shape == (4, rooms().spec.feature_size)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    assert (features @ features.T)[0, 1] < 0.9


def test_prompts_are_refused() -> None:
    model = rooms()
    with pytest.raises(ValueError, match="no prompts"):
        model.set_prompt(model.open(seed=0), "a red door")


def test_rollouts_write_what_they_generate() -> None:
    model, one = rooms(), record()
    (done,), frames = rollout(model, [one], first=30, frames=3)
    assert frames.shape == (1, 3, 128, 128, 3)
    assert np.array_equal(done.latents[:30], one.latents[:30])
    assert not np.array_equal(done.latents[30:33], one.latents[30:33])
    assert np.array_equal(done.latents[33:], one.latents[33:])


def test_training_and_play_see_the_same_context() -> None:
    """One target of a training batch, and the same frame through the plug-in, are predicted alike."""
    made, one, now, recalled = networks(), record(60), 40, [3, 8, 13, 4, 17]
    model = Rooms(made, torch.zeros(1, 16, 16, 16), steps=1)
    state: RoomsState = model.open(seed=0)
    model.resume(state, one.latents[:now], one.poses[:now], num_sections=now - 1)
    (job,) = model.begin([state], [one.controls[now : now + 1]], [history_at(model.spec, one, now, recalled)])
    one.poses[now] = job.prepared.pose[0]
    batch = batch_of(model, one, now, recalled)
    noisy, before = job.noisy, job.prepared
    model.advance([job])
    played = job.noisy
    teachers = Teachers(made.vae.to(TEACHING), made.depth.to(TEACHING))  # from here on play has other weights
    with torch.no_grad():
        shown = previews(teachers, batch, shipped(16), edge=model.camera.edge)
        trained = predict(made.dit, batch, shipped(16), shown, noisy=noisy[None], sigma=torch.ones(1, 1))
    for mine, theirs in ((shown.base, before.base), (shown.recalled, before.recalled)):
        assert (mine - theirs).norm() < 0.05 * theirs.norm()  # training runs in bfloat16
    assert (shown.shares - before.shares).abs().mean() < 1e-2
    assert 0.1 < shown.shares.mean() < 0.95
    assert (trained[0] - played).norm() / (played - before.base).norm() < 0.05


def test_every_part_of_the_target_has_a_say() -> None:
    model, one = rooms(), record()
    state = model.open(seed=0)
    model.resume(state, one.latents[:30], one.poses[:30], num_sections=29)
    (job,) = model.begin([state], [one.controls[30:31]], [history_at(model.spec, one, 30, (4, 5))])
    target = Target(job.noisy, torch.ones(1), job.prepared.control, *job.prepared[2:5])
    with torch.no_grad():
        expected = model.dit(target, job.context, job.bias) - target.base
        for name in Target._fields:
            other = target._replace(**{name: getattr(target, name) * 0.5})
            assert not torch.allclose(model.dit(other, job.context, job.bias) - other.base, expected, atol=1e-4), name


def batch_of(model: Rooms, one: Record, now: int, recalled: list[int]) -> Batch:
    """What training draws where the only target is latent `now`; play has the best memory first, training last."""
    span, memory = slice(now - RECENT, now + 1), np.array([0, *recalled[1:], recalled[0]])
    pictures = torch.from_numpy(one.latents.astype(np.float32))
    with torch.inference_mode():
        depths = model.depth(pictures)
    controls, poses = torch.from_numpy(one.controls), torch.from_numpy(one.poses)
    return Batch(
        *(x[span][None] for x in (pictures, depths, controls, poses, torch.arange(len(poses)))),
        *(x[memory][None] for x in (pictures, depths, poses, torch.arange(len(poses)))),
        torch.ones(1, 1 + RECALLED, dtype=torch.bool),
        torch.zeros(1, dtype=torch.long),
        torch.ones(1, dtype=torch.long),
    )


@pytest.mark.weights
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_loading_starts_no_team_of_threads() -> None:
    """A second team beside that of the thread that plays makes both sleep where they would wait awake."""
    count = "len(os.listdir('/proc/self/task'))"
    program = f"import os; from model.rooms.world import create; n = {count}; create(); print({count} - n)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(found.stdout) == 0


@pytest.mark.parametrize(
    ("capabilities", "gains"),
    [
        ({"cpu_name": "AMD EPYC 9555", "avx512_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_f": True}, False),
        ({"architecture": "aarch64", "bf16": True}, True),
        ({}, False),
    ],
)
def test_bfloat16_is_taken_where_it_is_multiplied_faster(capabilities: dict[str, object], gains: bool) -> None:
    assert gains_by_bfloat16(capabilities) == gains
