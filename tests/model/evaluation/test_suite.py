"""The protocols end to end on real sets and a small model: which figures and pictures there are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.evaluation.cases import Method
from model.evaluation.metrics import MAX_PSNR
from model.evaluation.report import flat_figures, markdown
from model.evaluation.rollout import no_recall
from model.evaluation.sets import SETS, save
from model.evaluation.suite import Extent, Suite, run_control, run_forward, run_loops, run_retrieval, run_revisits

from ..rooms.small import rooms
from .synthetic import video_of

OFF = Method("off", lambda: no_recall)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return tmp_path_factory.mktemp("sets")


def suite(folder, out, **extent) -> Suite:
    heard: list[str] = []
    options = {"videos": 2, "runs": 2, "seeds": 2, "columns": ("reckoned",), "sets": ("spin-90",)} | extent
    return Suite(rooms(), {"off": OFF}, folder, out, Extent(**options), heard.append)


def test_revisits_are_scored_for_every_method_column_and_the_copy(sets, tmp_path):
    done = suite(sets, tmp_path, columns=("reckoned", "true", "given"))
    run_revisits(done)
    for column in ("reckoned", "true", "given"):
        for method in ("off", "copy"):
            for group in ("spin-90", "all"):
                assert len(done.figures.by_video(f"rgt.{group}.{column}.{method}.revisit.psnr")) == 2
            assert done.figures.interval(f"close.spin-90.{column}.{method}.psnr").num == 2
    copy, off = (done.figures.interval(f"rgt.all.true.{name}.revisit.psnr").mean for name in ("copy", "off"))
    assert copy == pytest.approx(MAX_PSNR) and off < MAX_PSNR - 3  # the way back mirrors the way out
    assert done.figures.interval("sets.spin-90.known").num == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["revisit-spin-90-00.png", "revisit-spin-90-01.png"]
    assert len(done.curves.gaps["off"]) == 4 and len(done.curves.gaps["copy"]) == 2
    assert all(len(a) == len(b) for a, b in zip(done.curves.gaps["off"], done.curves.scores["off"], strict=True))


def test_forward_gives_steps_rollouts_and_a_strip_for_every_run(sets, tmp_path):
    done = suite(sets, tmp_path, runs=1)
    run_forward(done, OFF)
    for key in ("step.psnr", "step.copy", "step.moving.gain", "forward.psnr.at1", "forward.psnr.at64"):
        assert np.isfinite(done.figures.interval(key).mean)
    assert done.figures.interval("forward.unsteady").num == 1
    assert [path.name for path in tmp_path.iterdir()] == ["forward-00.png"]
    assert len(done.curves.forward[0]) == 64


def test_forward_is_measured_in_the_world_that_was_asked_for(tmp_path):
    name = "forward-doom-my-way-home"
    turning = np.stack([np.full(192, 4.0), np.full(192, 4.0), np.linspace(0, 9, 192)], 1)
    save(replace(video_of(turning), farthest=SETS[name].farthest), tmp_path / name / "000.safetensors", name=name)
    done = suite(tmp_path, tmp_path, sets=(name, "spin-90"), runs=1)
    run_forward(done, OFF)
    groups = {key.split(".")[0] for key in done.figures.keys()}
    assert groups == {"sets", "step-doom-home", "forward-doom-home"}
    assert "step-doom-home.psnr" in markdown(flat_figures(done.figures), about="")


def test_loops_and_controls_are_measured(sets, tmp_path):
    done = suite(sets, tmp_path, videos=1, seeds=1)
    run_loops(done)
    run_control(done, OFF)
    keys = ("loop.off.psnr", "control.turn.ratio", "control.move.error", "control.wall.stopped")
    assert all(done.figures.interval(key).num == 1 for key in keys)
    assert done.figures.interval("control.turn.error_reference").mean < 1  # seen through a VAE of random weights


@pytest.mark.slow
def test_retrieval_is_measured_in_the_world_that_was_asked_for(tmp_path):
    """On a walk that ends soon after its context, turning on the spot back to what it began with."""
    name = "walk-doom-deathmatch"
    save_walk(tmp_path, name)
    done = suite(tmp_path, tmp_path, sets=(name,), videos=1)
    done.methods["first"] = Method("first", lambda: lambda _record, _now: [0, 20])
    run_retrieval(done)
    found = {key for key in done.figures.keys() if key.startswith("retrieval")}
    assert {key.rsplit(".", 1)[0] for key in found} == {f"retrieval-doom-deathmatch.{way}" for way in ("off", "first")}
    needed, off, first = (
        done.figures.interval(f"retrieval-doom-deathmatch.{key}").mean for key in ("off.needed", "off.mrr", "first.mrr")
    )
    assert needed > 0.2 and off == 0 < first


def save_walk(folder: Path, name: str) -> None:
    headings = np.concatenate([np.zeros(40), np.linspace(0, np.pi, 40), np.full(515, np.pi), np.linspace(3.1, 0, 35)])
    video = video_of(np.stack([np.full(630, 4.0), np.full(630, 4.0), headings], 1))
    save(replace(video, farthest=SETS[name].farthest), folder / name / "000.safetensors", name=name)
