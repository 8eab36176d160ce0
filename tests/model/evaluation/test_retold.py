"""Memories told otherwise: what changes, what does not, and that the model is shown it."""

from functools import partial

import numpy as np
import pytest
import torch

from model.drift.discretize import train_codebook
from model.evaluation.cases import Method
from model.evaluation.retold import AGE, Retold, discretized, noisy, of_one_age
from model.evaluation.revisit import replay
from model.evaluation.rollout import history_at

from ..rooms.small import rooms
from .synthetic import case_of, there_and_back

MEMORIES = slice(1, 6)
FOUND = (12, 3, 8)  # of five slots, two stay empty
SAME = np.r_[0, 4:25]  # the slots that have no memory
HALF = 24


@pytest.fixture(scope="module")
def model():
    return rooms()


@pytest.fixture(scope="module")
def case(model):
    return case_of(model, there_and_back(HALF), first=2 * HALF - 3)


@pytest.fixture(scope="module")
def history(model, case):
    return history_at(model.spec, case.record("true"), 40, FOUND)


@pytest.fixture(scope="module")
def codebook(model):
    return train_codebook(model.starts, size=8)


def test_memories_of_one_age_have_their_own_indices(history):
    told = of_one_age(history, MEMORIES)
    assert told.indices[MEMORIES].tolist() == [40 - AGE, 39 - AGE, 38 - AGE, 0, 0]
    assert (told.indices[SAME] == history.indices[SAME]).all() and told.latents is history.latents
    assert history.indices[MEMORIES].tolist() == [*FOUND, 0, 0]


def test_only_memories_are_discretized(history, codebook):
    told = discretized(history, MEMORIES, codebook=codebook)
    pixels = told.latents[1:4].transpose(0, 2, 3, 1).reshape(-1, 16)
    assert len(np.unique(pixels, axis=0)) <= 8
    assert (told.latents[SAME] == history.latents[SAME]).all() and (told.valid == history.valid).all()


def test_a_memory_has_the_same_noise_whenever_it_is_shown(model, case, history):
    told = noisy(history, MEMORIES, sigma=0.1)
    apart = (told.latents[1:4].astype(float) - 0.9 * history.latents[1:4]).std((1, 2, 3))
    assert apart == pytest.approx([0.1] * 3, rel=0.1)
    assert (told.latents[SAME] == history.latents[SAME]).all()
    later = noisy(history_at(model.spec, case.record("true"), 43, FOUND[::-1]), MEMORIES, sigma=0.1)
    assert (later.latents[1:4] == told.latents[3:0:-1]).all()


def test_the_model_is_shown_what_is_told(model, case, codebook):
    plain = _played(model, case)
    for retell in (of_one_age, partial(discretized, codebook=codebook), partial(noisy, sigma=0.1)):
        told = _played(Retold(model, retell), case)
        assert (told != plain).any() and (told == _played(Retold(model, retell), case)).all()
    assert (_played(Retold(model, lambda history, _memories: history), case) == plain).all()


def test_what_was_told_of_another_memory_is_forgotten(model, case):
    """Two memories that are told under one index, one after the other, are not taken for each other."""
    states = [model.open(seed=0) for _ in range(2)]
    player, record = Retold(model, of_one_age), case.record("true")
    shown = []
    for state, before in zip(states, ((5,), (20,)), strict=True):
        model.resume(state, record.latents[:40], record.poses[:40], num_sections=39)
        for found in (before, (20,)):
            [job] = player.begin([state], [record.controls[40:41]], [history_at(model.spec, record, 40, found)])
        shown.append(job.context.keys)
    assert torch.equal(*shown)


def _played(player, case):
    return replay(player, [case], Method("some", lambda: lambda _record, _now: (3, 12, 8)), poses="true").frames
