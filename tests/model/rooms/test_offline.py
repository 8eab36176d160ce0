"""Offline orders on a small model: the forward plan is play, and every other order keeps to its plan."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.drift.alternatives import anchor_frames, repeat_image_to_video
from model.drift.discretize import Codebook
from model.drift.orders import Clip, Sampling, forward, inverted
from model.evaluation.rollout import Record, rollout
from model.packing.schedule import Schedule
from model.rooms.offline import Offline, Treatment, Walk
from model.rooms.world import Rooms
from tests.model.rooms.small import networks, rooms

FIRST = 24
PLAIN = "f1k1f16k4f2k2f1k1_g1"
PLAINLY = Treatment()


def record(seed: int = 0, frames: int = 40) -> Record:
    rng = np.random.default_rng(seed)
    return Record(
        rng.standard_normal((frames, 16, 16, 16)).astype(np.float16),
        rng.uniform(-1, 1, (frames, 3)).astype(np.float32),
        np.cumsum(rng.normal(0, 0.1, (frames, 3)), 0).astype(np.float32),
    )


def walked(
    name: str, plan: list[Sampling], one: Record, *, treatment: Treatment = PLAINLY, seed: int = 0
) -> tuple[Offline, Walk]:
    offline = Offline(rooms(), Schedule.parse(name), treatment)
    walk = offline.walk(one.latents, one.controls, one.poses, seed=seed)
    offline.show(walk, range(FIRST))
    for sampling in plan:
        offline.make([walk], sampling)
    return offline, walk


def plan_of(name: str, frames: int = 3) -> list[Sampling]:
    schedule = Schedule.parse(name)
    make = inverted if schedule.form == "inverted" else forward
    return list(make(schedule, Clip(frames, given=FIRST)))


def test_the_forward_plan_is_play() -> None:
    one = record()
    model = Rooms(networks(), torch.randn(3, 16, 16, 16), steps=2, schedule=PLAIN)
    model.sends_scouts = False
    (played,), _ = rollout(model, [one], first=FIRST, frames=3, seed=5)
    one.poses[:] = played.poses
    _, walk = walked(PLAIN, plan_of(PLAIN), one, seed=5)
    assert np.array_equal(walk.latents[: FIRST + 1], played.latents[: FIRST + 1])
    np.testing.assert_allclose(walk.latents, played.latents, atol=2e-3)  # pictures are decoded in other batches
    _, other = walked(PLAIN, plan_of(PLAIN), one, seed=6)
    assert not np.array_equal(other.latents[FIRST], played.latents[FIRST])


def test_recalled_latents_fill_their_slots() -> None:
    name, one = "f1k1f4s2f1s1f16k4f2k2f1k1_g1", record()
    model = rooms(sends_scouts=False)
    (played,), _ = rollout(model, [one], first=FIRST, frames=2, seed=5, recall=lambda _record, _now: (4, 2))
    one.poses[:] = played.poses
    offline = Offline(rooms(), Schedule.parse(name), Treatment())
    walk = offline.walk(one.latents, one.controls, one.poses, seed=5)
    offline.show(walk, range(FIRST))
    for sampling in plan_of(name, 2):
        offline.make([walk], sampling, recalled=[(4, 2)])
    np.testing.assert_allclose(walk.latents, played.latents, atol=2e-3)
    offline.make([walk], plan_of(name, 1)[0])
    assert np.abs(walk.latents[FIRST].astype(float) - played.latents[FIRST]).max() > 0.01


def test_the_inverted_order_makes_the_last_first_and_sees_both_sides() -> None:
    name, one = "f2k2f1k1_x_g1_f1k1f2k2_td", record()
    plan = plan_of(name, 4)
    assert [sampling.target for sampling in plan] == [(FIRST + i,) for i in (3, 2, 1, 0)]
    _, walk = walked(name, plan, one)
    made = [walk.latents[FIRST + i].copy() for i in range(4)]
    assert all(np.isfinite(latent).all() for latent in made)
    after = record()
    after.latents[FIRST - 1] *= 0.5  # the newest given
    assert all(not np.array_equal(walked(name, plan, after)[1].latents[FIRST + i], made[i]) for i in range(4))
    offline, other = walked(name, plan[:3], one)
    other.treated[FIRST + 1] *= 0.5  # the frame after the one to make
    offline.make([other], plan[3])
    assert np.array_equal(other.latents[FIRST + 1], made[1])
    assert not np.array_equal(other.latents[FIRST], made[0])


@pytest.mark.parametrize("alternative", [repeat_image_to_video, anchor_frames])
def test_alternatives_change_what_is_seen_as_their_plan_says(alternative) -> None:
    name = "td_f3k1_g1"
    plan = [alternative(sampling) for sampling in plan_of(name)]
    seen = {source for view in plan[0].context for source in view.sources} - {-1}
    _, walk = walked(name, plan[:1], record())
    for index in range(FIRST):
        other = record()
        other.latents[index] *= 0.5
        _, changed = walked(name, plan[:1], other)
        assert np.array_equal(changed.latents[FIRST], walk.latents[FIRST]) == (index not in seen), index


def test_what_is_shown_is_treated_and_what_is_made_is_not() -> None:
    one, codebook = record(), Codebook(torch.randn(3, 16))
    for treatment in (Treatment(noise=0.5), Treatment(codebook=codebook)):
        _, walk = walked(PLAIN, plan_of(PLAIN, 2), one, treatment=treatment)
        assert np.array_equal(walk.latents[:FIRST], one.latents[:FIRST])
        assert not np.array_equal(walk.treated[: FIRST + 2], walk.latents[: FIRST + 2])
        assert not walk.treated[FIRST + 2 :].any()
        _, untreated = walked(PLAIN, plan_of(PLAIN, 2), one)
        _, tokens_only = walked(PLAIN, plan_of(PLAIN, 2), one, treatment=replace(treatment, pictures=False))
        made = [w.latents[FIRST] for w in (walk, untreated, tokens_only)]
        assert not any(np.array_equal(made[i], made[j]) for i, j in ((0, 1), (1, 2), (0, 2)))
    pixels = np.moveaxis(walk.treated[: FIRST + 2].astype(np.float32), 1, -1).reshape(-1, 16)
    away = np.abs(pixels[:, None] - codebook.entries.numpy()).max(2).min(1)
    assert away.max() < 2e-3
    _, noised = walked(PLAIN, [], one, treatment=Treatment(noise=0.5))
    _, more = walked(PLAIN, [], one, treatment=Treatment(noise=1.0))
    correlation = np.corrcoef(noised.treated[:FIRST].ravel().astype(float), more.treated[:FIRST].ravel().astype(float))
    assert correlation[0, 1] == pytest.approx(0.5**0.5, abs=0.02)  # the same noise at every level


def test_guidance_moves_away_from_what_is_seen_without_history() -> None:
    plan, one = plan_of(PLAIN, 1), record()
    made = [
        walked(PLAIN, plan, one, treatment=Treatment(guidance=scale))[1].latents[FIRST].astype(float)
        for scale in (0.0, 1.0, 2.0)
    ]
    assert not np.array_equal(made[0], made[1])
    assert (made[2] - made[1]).ravel() @ (made[1] - made[0]).ravel() > 0


@pytest.mark.parametrize("tail", ["ta", "tc"])
def test_tails_are_seen(tail: str) -> None:
    name, one, other = f"{tail}_f4k4f1k1_g1", record(), record()
    offline, walk = walked(name, plan_of(name, 1), one)
    other.latents[3] *= 0.5  # long out of the slots
    _, changed = walked(name, plan_of(name, 1), other)
    assert not np.array_equal(changed.latents[FIRST], walk.latents[FIRST])
    deleted = name.replace(tail, "td")
    same = [walked(deleted, plan_of(deleted, 1), r)[1].latents[FIRST] for r in (one, other)]
    assert np.array_equal(*same)
    assert offline.tokens(tail=19) - offline.tokens() == (19 if tail == "ta" else 1)


def test_a_camera_that_stands_keeps_its_picture() -> None:
    one = record()
    one.poses[FIRST:] = one.poses[FIRST - 1]
    _, walk = walked(PLAIN, plan_of(PLAIN), one, treatment=Treatment(noise=0.3))
    assert (walk.latents[FIRST : FIRST + 3] == one.latents[FIRST - 1]).all()


def test_walks_side_by_side_are_as_alone() -> None:
    plan, records = plan_of(PLAIN, 2), [record(seed=i) for i in range(2)]
    records[1].poses[FIRST] = records[1].poses[FIRST - 1]  # one stands while the other moves
    offline = Offline(rooms(), Schedule.parse(PLAIN), Treatment())
    walks = [offline.walk(r.latents, r.controls, r.poses, seed=i) for i, r in enumerate(records)]
    for walk in walks:
        offline.show(walk, range(FIRST))
    for sampling in plan:
        offline.make(walks, sampling)
    for i, walk in enumerate(walks):
        _, alone = walked(PLAIN, plan, records[i], seed=i)
        np.testing.assert_allclose(walk.latents, alone.latents, atol=4e-3)
