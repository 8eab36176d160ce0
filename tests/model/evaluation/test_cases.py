"""What a session may know of a video, and what its frames are compared to."""

import numpy as np
import pytest

from model.evaluation.cases import decoded, encoded, records

from ..rooms.small import rooms
from .synthetic import case_of, frames_at, there_and_back


@pytest.fixture(scope="module")
def model():
    return rooms()


@pytest.fixture(scope="module")
def cases(model):
    return [case_of(model, there_and_back(30) + (0.0, shift, 0.0), first=31, home=0) for shift in (0.0, 0.5, 1.0)]


def test_a_record_holds_the_context_and_the_controls_of_all(cases):
    for column in ("true", "reckoned", "given"):
        record = cases[0].record(column)
        assert record.is_led == (column == "given")
        assert (record.latents[:31] == cases[0].latents[:31]).all() and not record.latents[31:].any()
        assert (record.poses[:31] == cases[0].poses[column][:31]).all() and not record.poses[31:].any()
        assert len(record.controls) == 61 and (record.truth == cases[0].poses["true"]).all()
    assert (cases[0].whole_record("true").latents == cases[0].latents).all()


def test_true_and_reckoned_poses_begin_alike(cases):
    true, believed = cases[0].poses["true"], cases[0].poses["reckoned"]
    assert (cases[0].poses["given"] == true).all() and (believed != true).any()
    assert not true[0].any() and not believed[0].any()
    assert true[30] == pytest.approx(true[0] + cases[0].video.poses[30] - cases[0].video.poses[0], abs=1e-5)


def test_the_reference_is_what_the_vae_can_show(model, cases):
    again = decoded(model, encoded(model, cases[0].video.frames[31:]))
    assert (cases[0].reference == again).all() and cases[0].reference.shape == cases[0].truth.shape


def test_foreign_records_recall_from_the_next_session(cases):
    own, foreign = records(cases, "true"), records(cases, "true", is_foreign=True)
    assert all(record.library is None for record in own)
    for i, record in enumerate(foreign):
        assert (record.library.latents == cases[(i + 1) % 3].latents).all()
        assert (record.latents == own[i].latents).all()


def test_encoding_in_parts_joins(model):
    frames = frames_at(there_and_back(20))
    one_by_one = np.concatenate([model.encode(frame[None]) for frame in frames])
    assert encoded(model, frames) == pytest.approx(one_by_one, abs=0.02)
    assert len(decoded(model, one_by_one)) == 41
