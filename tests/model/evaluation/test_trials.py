"""Rows end to end on a small model: what is run, what is saved, and what is not run again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.evaluation.courses import SETTLED, courses, figures_of
from model.evaluation.rollout import no_recall
from model.evaluation.rows import Row, rows
from model.evaluation.trials import Result, Trials, prepared, run_rows, samplings
from model.rooms.world import load

from .retraced import lay_out

ROWS = {(row.part, row.name): row for row in rows()}
SOME = [
    ROWS["schedules", name]
    for name in ("geometric", "symmetric", "geometric inverted", "compressed tail", "appended tail+D")
] + [
    ROWS["alternatives", name]
    for name in ("repeated image-to-video", "anchor frames", "noise 0.5, as trained", "history guidance 1.5", "+D")
]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return lay_out(tmp_path_factory.mktemp("world"), videos=2)


def trials(places: tuple[Path, Path], out: Path, **changes: int) -> Trials:
    return replace(Trials(out, places[1], places[0], videos=1, seeds=1, frames=3), **changes)


def run(chosen: list[Row], asked: Trials, heard: list[str]) -> list[Result | None]:
    return [result for _, result in run_rows(chosen, asked, recall=lambda _model: no_recall, tell=heard.append)]


def test_rows_are_run_once_and_what_lacks_its_fine_tuning_not_at_all(places: tuple[Path, Path], tmp_path: Path) -> None:
    heard: list[str] = []
    results = run(SOME, trials(places, tmp_path), heard)
    assert [result is None for result in results] == [row.variants == ("discrete-128",) for row in SOME]
    assert len(heard) == len(SOME) - 1
    for result in filter(None, results):
        assert np.isfinite([result.over_seeds(name)[0] for name in ("sharpness", "psnr", "motion_ratio")]).all()
        assert result.ms > 0
    tokens = {row.name: result.tokens for row, result in zip(SOME, results, strict=True) if result}
    assert tokens["geometric"] == 127 and tokens["geometric inverted"] == 254 and tokens["anchor frames"] == 192
    assert tokens["compressed tail"] == 97
    left = courses_length(places) - 3 - 19 + 2  # the last sampling's
    assert tokens["appended tail+D"] == 96 + left
    assert run(SOME, trials(places, tmp_path), heard) == results
    assert len(heard) == len(SOME) - 1
    run(SOME[:1], trials(places, tmp_path, frames=2), heard)
    assert len(heard) == len(SOME)
    saved = [json.loads(path.read_text())["row"]["schedule"] for path in (tmp_path / "rows").iterdir()]
    assert len(saved) == len(SOME)
    assert (tmp_path / "pictures" / "schedules-geometric.png").exists()


def courses_length(places: tuple[Path, Path]) -> int:
    [course] = courses(load(places[0]), places[1], videos=1, frames=3)
    return len(course.latents)


def test_seeds_and_videos_are_kept_apart(places: tuple[Path, Path], tmp_path: Path) -> None:
    [result] = run([SOME[0]], trials(places, tmp_path, videos=2, seeds=2, frames=2), [])
    assert result is not None
    table = np.array(result.figures["psnr"])
    assert table.shape == (2, 2)
    assert len(set(table.ravel())) == 4
    assert np.array(result.figures["pooled.sharpness"]).shape == (2, 1)


def test_revisits_are_of_the_context_and_of_the_models_own(places: tuple[Path, Path]) -> None:
    [course] = courses(load(places[0]), places[1], videos=1, frames=200)
    assert course.split.is_revisit[-20:].all()
    perfect = figures_of([course], [course.reference], 1)
    assert perfect["revisit"][0][0] == perfect["psnr"][0][0] == pytest.approx(48.13)
    assert perfect["sharpness"] == perfect["sharpness_truth"]
    assert perfect["sharp_at_end"][0][0] == perfect["sharp_at_start"][0][0] == 1
    here = np.arange(len(course.reference)) + course.first
    turn = (len(course.latents) - 1) // 2
    broken = course.reference.copy()
    broken[here > turn + SETTLED] = 0
    assert figures_of([course], [broken], 1)["own_revisit"][0][0] < perfect["own_revisit"][0][0]
    assert perfect["own_revisit"][0][0] > 40
    assert figures_of([course], [broken], 1)["sharp_at_end"][0][0] == 0


def test_more_frames_than_a_walk_has_are_refused(places: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="1 to 285 frames, got 300"):
        courses(load(places[0]), places[1], videos=1, frames=300)


def test_the_inverted_order_comes_in_stretches() -> None:
    row = ROWS["alternatives", "inverted"]
    made = [sampling.target[0] for sampling in samplings(replace(row, ahead=4), first=65, frames=10)]
    assert made == [68, 67, 66, 65, 72, 71, 70, 69, 74, 73]


def test_an_untrained_codebook_is_of_the_worlds_beginnings(places: tuple[Path, Path], tmp_path: Path) -> None:
    row = ROWS["codebooks", "K=8, untrained"]
    model, codebook = prepared(row, trials(places, tmp_path), "")
    assert codebook is not None and codebook.entries.shape == (8, 16)
    assert model.spec.schedule == "f1k1f4s2f1s1f16k4f2k2f1k1_g1"
    assert prepared(ROWS["codebooks", "none"], trials(places, tmp_path), "")[1] is None
