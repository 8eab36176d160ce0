"""Recall in the evaluation against recall in a session, and what the rivals may know."""

import numpy as np
import pytest

from model.evaluation.rollout import Record, rollout
from server.rivals import POLICIES, BankRecall, methods
from server.session import Session, expected_poses, next_histories

from .tiny_model import TinyModel

TURN = 0.5  # field of view; the tiny model has none


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


def test_ours_recalls_what_a_session_recalls():
    model = TinyModel()
    controls = walk(80)
    record = empty_record(model, controls)
    recall = BankRecall(model, POLICIES["ours"], field_of_view=TURN)
    state = model.open(image=None, prompt="", seed=0)
    session = Session(model.spec, state.start, key=model.features(state.start.latents)[0], seed=0, capacity=4096)
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
        session.remember(model.features(section.latents))
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
    for name in set(POLICIES) - {"fov", "oracle"}:  # these are told where the camera will be
        one, other = (BankRecall(model, POLICIES[name], field_of_view=TURN)(r, 40) for r in (record, cut))
        assert tuple(one) == tuple(other)


def test_sessions_of_one_batch_have_memories_of_their_own():
    model = TinyModel()
    recall = BankRecall(model, POLICIES["similar"], field_of_view=TURN)
    one, two = finished(model, walk(80)), finished(model, walk(80), seed=4)
    alone = BankRecall(model, POLICIES["similar"], field_of_view=TURN)
    expected = [tuple(alone(two, now)) for now in (30, 50)]
    mixed = [(recall(one, now), tuple(recall(two, now)))[1] for now in (30, 50)]
    assert mixed == expected


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="nearest"):
        methods(TinyModel(), ["ours", "nearest"], field_of_view=TURN)
