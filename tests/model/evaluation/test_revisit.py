"""R-GT, R-CLOSE and R-LOOP on videos whose answers are known."""

import numpy as np
import pytest

from model.evaluation.cases import Method, decoded
from model.evaluation.metrics import MAX_PSNR, psnr
from model.evaluation.revisit import by_split, closing, copied, frame_scores, looping, replay
from model.evaluation.rollout import no_recall

from ..rooms.small import rooms
from .synthetic import case_of, there_and_back

HALF = 40


@pytest.fixture(scope="module")
def model():
    return rooms()


@pytest.fixture(scope="module")
def case(model):
    return case_of(model, there_and_back(HALF), first=HALF + 1, home=0)


def test_frames_are_scored_against_both_references(case):
    perfect, true = frame_scores(case, case.reference), frame_scores(case, case.truth)
    assert (perfect["psnr"] == MAX_PSNR).all() and (true["psnr_raw"] == MAX_PSNR).all()
    assert (perfect["psnr_raw"] == psnr(case.reference, case.truth)).all() and (perfect["psnr_raw"] < 40).all()
    assert perfect["ssim"] == pytest.approx(1) and (perfect["ssim_raw"] < 0.999).all()


def test_revisits_and_novel_frames_are_averaged_apart(case):
    values = {"psnr": np.arange(HALF, dtype=float)}
    row = by_split(case, values)
    assert row["revisit.psnr"] == values["psnr"][case.split.is_revisit].mean()
    assert np.isnan(row["novel.psnr"])  # the way back shows nothing new


def test_on_a_mirrored_way_back_copying_is_perfect(model, case):
    assert (psnr(copied(model, case), case.reference) == MAX_PSNR).all()


def test_copying_shows_the_nearest_context_frame(model):
    ahead = np.stack([1 + 0.1 * np.arange(30), np.full(30, 4.0), np.zeros(30)], 1)
    case = case_of(model, ahead, first=25)
    assert (copied(model, case) == decoded(model, case.latents[[24] * 5])).all()


def test_closing_compares_the_last_frame_with_home(model, case):
    home = decoded(model, case.latents[:1])
    frames = np.concatenate([case.reference[:-1] // 2, home])
    assert closing(model, case, frames)["psnr"] == MAX_PSNR
    assert closing(model, case, frames[::-1])["psnr"] == pytest.approx(psnr(frames[:1], home)[0])


def test_a_loop_is_perfect_if_the_way_back_mirrors_the_way_out(model, case):
    start = decoded(model, case.latents[HALF][None])
    out = np.random.default_rng(0).integers(0, 256, (6, *start.shape[1:]), np.uint8)
    perfect = np.concatenate([out, out[-2::-1], start])
    assert looping(model, case, perfect) == pytest.approx({"psnr": MAX_PSNR, "ssim": 1.0, "matched": MAX_PSNR})
    late = np.concatenate([out, out[-1:], out[-2:0:-1], out[:1]])  # one frame too slow
    row = looping(model, case, late)
    assert row["psnr"] < 12 and row["matched"] > row["psnr"] + 20


def test_replay_generates_for_every_case(model):
    shorter = case_of(model, there_and_back(12), first=22)
    result = replay(model, [shorter, shorter], Method("off", lambda: no_recall), poses="true")
    assert result.frames.shape == (2, 3, 128, 128, 3) and result.poses.shape == (2, 3, 3)
    assert (result.frames[0] != result.frames[1]).any()  # other noise
