"""Rollouts of a small `rooms`: what the model is shown, and that nothing of what is to come is."""

from dataclasses import replace

import numpy as np
import pytest

from model.evaluation.cases import encoded
from model.evaluation.rollout import Record, history_at, no_recall, resumed, rollout, sample

from ..rooms.small import rooms
from .synthetic import frames_at, there_and_back, video_of

FIRST, FRAMES = 22, 3


@pytest.fixture(scope="module")
def model():
    return rooms()


def record_of(model, shift: float = 0.0) -> Record:
    video = video_of(there_and_back(14) + (0.0, shift, 0.0))
    return Record(encoded(model, frames_at(video.poses)), video.controls, video.poses.astype(np.float32))


def test_the_context_stays_and_the_rest_is_generated(model):
    record = record_of(model)
    before = record.latents.copy()
    [done], frames = rollout(model, [record], first=FIRST, frames=FRAMES)
    assert frames.shape == (1, FRAMES, 128, 128, 3)
    assert (record.latents == before).all() and (done.latents[:FIRST] == before[:FIRST]).all()
    changed = (done.latents != before).any((1, 2, 3))
    assert changed[FIRST : FIRST + FRAMES].all() and not changed[FIRST + FRAMES :].any()


def test_what_comes_later_in_the_record_does_not_matter(model):
    record, spoiled = record_of(model), record_of(model)
    spoiled.latents[FIRST:] = 7.0
    spoiled.poses[FIRST:] = 9.0
    frames = [rollout(model, [r], first=FIRST, frames=FRAMES)[1] for r in (record, spoiled)]
    assert (frames[0] == frames[1]).all()


def test_records_in_one_batch_do_not_touch(model):
    one, two = record_of(model), record_of(model, 0.7)
    together, both = rollout(model, [one, two], first=FIRST, frames=FRAMES, seed=5)
    [alone], frames = rollout(model, [two], first=FIRST, frames=FRAMES, seed=6)
    assert np.abs(both[1].astype(int) - frames[0]).max() <= 1
    assert together[1].poses == pytest.approx(alone.poses, abs=1e-3)


def test_recall_is_asked_before_each_frame_with_what_was_generated(model):
    asked = []

    def recall(record, now):
        asked.append((now, record.latents[now - 1].copy()))
        return [4, 2]

    [done], _ = rollout(model, [record_of(model)], first=FIRST, frames=FRAMES, recall=recall)
    assert [now for now, _ in asked] == [FIRST, FIRST + 1, FIRST + 2]
    assert all((latent == done.latents[now - 1]).all() for now, latent in asked)


def test_a_camera_that_is_led_goes_where_the_record_went(model):
    record = record_of(model)
    there = record.poses[FIRST - 1] + np.cumsum(np.full((FRAMES, 3), (0.05, -0.02, 0.0), np.float32), 0)
    record.controls[FIRST:, 2] = 0.0  # a turn is always exact
    free = replace(record, truth=np.concatenate([record.poses[:FIRST], there]))
    [led], _ = rollout(model, [replace(free, is_led=True)], first=FIRST, frames=FRAMES)
    assert led.poses[FIRST : FIRST + FRAMES] == pytest.approx(there, abs=1e-5)
    [own], _ = rollout(model, [free], first=FIRST, frames=FRAMES)
    assert np.abs(own.poses[FIRST + FRAMES - 1] - there[-1]).max() > 0.02


def test_slots_are_start_recalled_and_recent(model):
    spec, record = model.spec, record_of(model)
    history = history_at(spec, record, 25, [4, 2])
    recent = 1 + spec.num_recalled
    assert history.indices[:3].tolist() == [0, 4, 2] and history.indices[recent:].tolist() == list(range(6, 25))
    assert history.valid.tolist() == [True] * 3 + [False] * (spec.num_recalled - 2) + [True] * spec.num_recent
    for slot in np.flatnonzero(history.valid):
        assert (history.latents[slot] == record.latents[history.indices[slot]]).all()
        assert (history.poses[slot] == record.poses[history.indices[slot]]).all()
    assert not history.latents[~history.valid].any() and not history.poses[~history.valid].any()


def test_slots_from_before_the_start_are_empty(model):
    history = history_at(model.spec, record_of(model), 3, ())
    assert history.valid.sum() == 1 + 3 and history.indices[-3:].tolist() == [0, 1, 2]


def test_a_library_gives_the_recalled_slots_alone(model):
    record, other = record_of(model), record_of(model, 1.5)
    record.library = other
    history = history_at(model.spec, record, 25, [4])
    assert (history.latents[1] == other.latents[4]).all() and (history.poses[1] == other.poses[4]).all()
    assert (history.latents[-1] == record.latents[24]).all()


def test_a_resumed_state_goes_on_as_the_rollout_did(model):
    record = record_of(model)
    [done], _ = rollout(model, [record], first=FIRST, frames=1, seed=3)
    state = resumed(model, record, FIRST, seed=3)
    history = history_at(model.spec, record, FIRST, no_recall(record, FIRST))
    [section] = sample(model, [state], [record.controls[FIRST : FIRST + 1]], [history])
    assert (section.latents[0] == done.latents[FIRST]).all() and (section.poses[0] == done.poses[FIRST]).all()
