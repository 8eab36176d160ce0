"""Recall in the evaluation against recall in a session, and what the rivals may know."""

from dataclasses import replace

import numpy as np
import pytest

from memory_bank import Tuning
from model.evaluation.rollout import Record, rollout
from server.rivals import POLICIES, BankRecall, Policy, methods
from server.session import Session, expected_poses, next_histories

from .tiny_model import TinyModel

TURN = 0.5  # field of view


def walk(num: int) -> np.ndarray:
    """Controls (num, 2) that leave and come back."""
    rng = np.random.default_rng(3)
    out = np.repeat(rng.choice((-1.0, 1.0), (num // 8, 2)), 4, 0).astype(np.float32)
    return np.concatenate([np.zeros((1, 2), np.float32), out, -out[::-1]])


def empty_record(model: TinyModel, controls: np.ndarray, *, seed: int = 0) -> Record:
    start = model.open(image=None, prompt="", seed=seed).start
    latents = np.zeros((len(controls), *model.spec.latent_shape), np.float16)
    latents[0] = start.latents[0]
    return Record(latents, controls, np.zeros((len(controls), 3), np.float32))


def finished(model: TinyModel, controls: np.ndarray, *, seed: int = 0) -> Record:
    [record], _ = rollout(model, [empty_record(model, controls)], first=1, frames=len(controls) - 1, seed=seed)
    record.truth = record.poses.copy()
    return record


@pytest.mark.parametrize("num_rays", [0, 4])
def test_ours_recalls_what_a_session_recalls(num_rays):
    model = TinyModel(num_rays=num_rays)
    controls = walk(80)
    record = empty_record(model, controls)
    recall = BankRecall(model, POLICIES["ours"], field_of_view=TURN)
    state = model.open(image=None, prompt="", seed=0)
    [key], [sight] = model.features(state.start.latents), model.sight(state.start.latents)
    session = Session(model.spec, state.start, key=key, sight=sight, seed=0, capacity=4096)
    recalled = []
    for now in range(1, len(controls)):
        steps = controls[now : now + 1]
        [history] = next_histories([session], [expected_poses(model, state, steps)])
        ids = tuple(recall(record, now))
        assert ids == session.recalled.ids
        jobs = model.begin([state], [steps], [history])
        while jobs[0].steps_left:
            model.advance(jobs)
        [section] = model.finish(jobs)
        session.commit(section)
        session.remember(model.features(section.latents), model.sight(section.latents))
        record.latents[now], record.poses[now] = section.latents[0], section.poses[0]
        recalled.append(ids)
    assert len(set(recalled)) > 10 and session.num_memories > 10


def test_a_world_with_memory_looks_the_same_after_the_way_back():
    model = TinyModel()
    controls = walk(48)
    shown = {}
    for method in methods(model, ["off", "ours", "oracle"], field_of_view=TURN):
        record = empty_record(model, controls)
        record.truth = finished(model, controls).truth
        _, frames = rollout(model, [record], first=1, frames=len(controls) - 1, recall=method.make())
        out, back = frames[0, :23], frames[0, -2::-1][:23]
        shown[method.name] = float((out == back).mean())
    assert shown["ours"] > shown["off"] + 0.2 and shown["oracle"] > shown["off"] + 0.2


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "ours"])
def test_every_rival_recalls_old_frames_of_its_library(name):
    model = TinyModel()
    record = finished(model, walk(80))
    record.library = finished(model, walk(80), seed=9) if POLICIES[name].is_foreign else None
    for now in (30, 60):
        ids = BankRecall(model, POLICIES[name], field_of_view=TURN)(record, now)
        assert len(ids) == model.spec.num_recalled == len(set(ids))
        assert all(0 < id < now - model.spec.num_recent for id in ids)


def test_recency_is_the_frames_before_the_window():
    model = TinyModel()
    ids = BankRecall(model, POLICIES["recent"], field_of_view=TURN)(finished(model, walk(80)), 50)
    assert sorted(ids) == [44, 45]


def test_only_those_who_may_look_at_the_truth():
    model = TinyModel()
    record = finished(model, walk(80))
    asked = {name: BankRecall(model, POLICIES[name], field_of_view=TURN)(record, 60) for name in ("oracle", "ours")}
    record.truth = np.roll(record.truth, 13, axis=0)
    again = {name: BankRecall(model, POLICIES[name], field_of_view=TURN)(record, 60) for name in ("oracle", "ours")}
    assert again["ours"] == asked["ours"] and again["oracle"] != asked["oracle"]


def test_a_recall_knows_nothing_of_what_comes():
    model = TinyModel()
    record, cut = finished(model, walk(80)), finished(model, walk(80))
    cut.latents[40:], cut.poses[40:] = 0, 0
    told = {"fov", "oracle"}  # where the camera will be
    for policy in (Policy("draft"), *(POLICIES[name] for name in POLICIES.keys() - told)):
        one, other = (asked(model, policy, r, 40) for r in (record, cut))
        assert one == other


def test_sessions_of_one_batch_have_memories_of_their_own():
    model = TinyModel()
    recall = BankRecall(model, POLICIES["similar"], field_of_view=TURN)
    one, two = finished(model, walk(80)), finished(model, walk(80), seed=4)
    alone = BankRecall(model, POLICIES["similar"], field_of_view=TURN)
    expected = [tuple(alone(two, now)) for now in (30, 50)]
    mixed = [(recall(one, now), tuple(recall(two, now)))[1] for now in (30, 50)]
    assert mixed == expected


def test_as_many_are_asked_for_as_the_policy_says():
    model, ours = TinyModel(), POLICIES["ours"]
    record = finished(model, walk(80))
    assert asked(model, replace(ours, num=1), record, 60) == asked(model, ours, record, 60)[:1]
    assert len(asked(model, replace(ours, num=7), record, 60)) == 7


def test_a_policy_has_its_tuning_and_looks_as_far_ahead_as_it_says():
    model, ours = TinyModel(), POLICIES["ours"]
    record = finished(model, walk(80))
    gated = replace(ours, novelty=POLICIES["log"].novelty, tuning=Tuning(threshold=1.1))
    assert asked(model, gated, record, 60) == asked(model, POLICIES["log"], record, 60)
    for changed in (
        replace(ours, tuning=Tuning(diversity=0.1)),
        replace(ours, lookahead=0),
        replace(ours, lookahead=2),
    ):
        assert any(asked(model, changed, record, now) != asked(model, ours, record, now) for now in range(30, 80))


def test_the_last_write_wins_where_it_is_asked_to():
    model, ours = TinyModel(), POLICIES["ours"]
    record = finished(model, walk(80))
    record.latents[41:], record.poses[41:] = record.latents[39::-1], record.poses[39::-1]
    first, last = (asked(model, policy, record, 80) for policy in (ours, replace(ours, keeps_last=True)))
    assert max(first) <= 40 < min(last)


def test_a_draft_asks_for_what_comes():
    """Half a turn later the newest latent looks like what is behind; the frame to come is half a memory."""
    model = TinyModel()
    record = finished(model, walk(80))
    before = record.latents.copy()
    times = range(30, 80)
    drafts, newest = ([asked(model, Policy(mode), record, now) for now in times] for mode in ("draft", "similar"))
    assert drafts != newest
    coming = record.latents[list(times)]
    assert likeness(model, record, drafts, coming) > likeness(model, record, newest, coming)
    assert (record.latents == before).all()


def asked(model: TinyModel, policy: Policy, record: Record, now: int) -> tuple[int, ...]:
    return tuple(BankRecall(model, policy, field_of_view=TURN)(record, now))


def likeness(model: TinyModel, record: Record, recalled: list[tuple[int, ...]], coming: np.ndarray) -> float:
    """Mean cosine of the best memory of each recall with the frame to come."""
    keys, wanted = model.features(record.latents), model.features(coming)
    return float(np.mean([keys[ids[0]] @ key for ids, key in zip(recalled, wanted, strict=True)]))


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="nearest"):
        methods(TinyModel(), ["ours", "nearest"], field_of_view=TURN)
