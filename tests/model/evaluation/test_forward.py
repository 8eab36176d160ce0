"""One-step prediction, and when a run counts as blurred out or blown up."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from model.evaluation.cases import Method
from model.evaluation.forward import is_steady, looks_at_times, moving_frames, one_step, unsteady_records
from model.evaluation.metrics import psnr
from model.evaluation.revisit import replay
from model.evaluation.rollout import no_recall
from model.rooms.camera import Camera

from ..rooms.small import rooms
from .synthetic import case_of, there_and_back


@pytest.fixture(scope="module")
def model():
    return rooms()


@pytest.fixture(scope="module")
def case(model):
    return case_of(model, there_and_back(20), first=22)


def test_every_fourth_frame_is_predicted_from_the_record(model, case):
    [step] = one_step(model, [case], Method("off", lambda: no_recall), poses="true", every=4)
    assert len(step.psnr) == len(step.copy) == len(step.is_moving) == 5
    first = replay(model, [case], Method("off", lambda: no_recall), poses="true").frames[0, :1]
    assert step.psnr[0] == pytest.approx(psnr(first, case.reference[:1])[0], abs=0.01)
    assert step.copy[1] == pytest.approx(psnr(case.reference[3:4], case.reference[4:5])[0], abs=0.3)
    assert step.is_moving.all()


def test_a_view_moves_from_a_quarter_of_full_speed():
    step, turn = Camera().step, Camera().turn
    poses = np.cumsum([[0, 0, 0], [0.2 * step, 0, 0], [0.3 * step, 0, 0], [0, 0, 0.2 * turn], [0, 0, -0.3 * turn]], 0)
    assert moving_frames(Camera(), poses).tolist() == [False, True, False, True]


def test_a_record_that_ends_as_no_other_looks_is_unsteady_itself():
    plain, odd_start, odd_end = (np.array([[a, 1.0], [b, 1.0]]) for a, b in ((3, 4), (9, 4), (3, 5)))
    assert unsteady_records([plain, plain + 0, odd_end]) == [False, False, True]
    assert not any(unsteady_records([plain, odd_start, odd_end]))  # another looked so, if not in the end
    assert unsteady_records([plain]) == []


def test_blurred_bright_and_grey_ends_are_unsteady():
    walks = np.random.default_rng(0).integers(60, 196, (6, 64, 32, 32, 3), np.uint8)
    for walk in walks[:3]:
        walk[:] = walk // 2 + 40  # places differ
    real = np.concatenate([looks_at_times(walk) for walk in walks])
    assert real.shape == (24, 3)
    assert all(is_steady(looks_at_times(walk)[-1], real) for walk in walks)
    sharp = walks[4]
    blurred = np.stack([np.asarray(Image.fromarray(x).filter(ImageFilter.GaussianBlur(2))) for x in sharp])
    for broken in (blurred, sharp // 8, sharp // 4 + 96):
        assert not is_steady(looks_at_times(broken)[-1], real)
    late = sharp.copy()
    late[:16] = 0
    assert is_steady(looks_at_times(late)[-1], real)  # only the end counts
