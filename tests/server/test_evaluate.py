"""The whole evaluation on a small model, long play, and the cost of recall."""

import json
from itertools import islice

import numpy as np
import pytest

from model.evaluation.suite import Extent
from server.evaluate import Options, evaluate, play, recall_cost
from server.session import expected_poses, next_histories
from server.world import Opening, World
from tests.model.rooms.small import rooms

from .tiny_model import TinyModel


def options(tmp_path, **changes) -> Options:
    extent = Extent(videos=2, runs=2, seeds=1, columns=("reckoned",), sets=("spin-90",))
    settings = {
        "methods": ("off", "ours"),
        "extent": extent,
        "long_runs": 2,
        "long_frames": 40,
        "glimpses": 20,
    } | changes
    return Options(tmp_path / "sets", tmp_path / "out", **settings)


def test_an_evaluation_writes_its_report_and_returns_flat_figures(tmp_path):
    heard: list[str] = []
    chosen = options(tmp_path, protocols=("revisit", "autopilot", "cost"), cost_entries=(50,))
    flat = evaluate(rooms(), chosen, tell=heard.append)
    assert flat == json.loads((tmp_path / "out" / "figures.json").read_text())
    assert all(isinstance(value, int | float) for value in flat.values())
    for key in ("rgt.all.reckoned.ours.revisit.psnr", "gain.ours_over_off", "autopilot.sharpness", "cost.n50.pose_us"):
        assert key in flat
    assert flat["autopilot.motion_ratio.videos"] == 2
    assert flat["autopilot.unlike.last"] > 0 and flat["autopilot.unlike_truth.first"] > 0
    assert flat["autopilot.bent.last"] > 0 and flat["autopilot.bent_truth.last.videos"] == 2
    report = (tmp_path / "out" / "report.md").read_text()
    assert "| ours |" in report and "## Bars" in report
    assert (tmp_path / "out" / "autopilot-00.png").exists() and (tmp_path / "out" / "revisit-spin-90-00.png").exists()
    assert any("ours" in line for line in heard) and any("autopilot" in line for line in heard)


def test_unknown_protocols_are_refused(tmp_path):
    with pytest.raises(ValueError, match="forward.*dance"):
        evaluate(rooms(), options(tmp_path, protocols=("dance",)), tell=[].append)


def test_one_session_has_no_other_to_recall_from(tmp_path):
    alone = options(tmp_path, methods=("ours", "other"), extent=Extent(videos=1))
    with pytest.raises(ValueError, match="at least 2 videos"):
        evaluate(rooms(), alone, tell=[].append)


def test_play_is_what_the_server_plays():
    model = TinyModel()
    controls = np.random.default_rng(0).uniform(-1, 1, (2, 12, 2)).astype(np.float32)
    openings = [Opening(image=None, prompt="", seed=seed) for seed in (3, 4)]
    together = list(play(model, openings, controls))
    assert len(together) == 12 and together[0].shape == (2, 16, 32, 3)
    world = World(model, openings[1], first_frame=0, capacity=4096)
    for now in range(12):
        steps = controls[1, now : now + 1]
        [history] = next_histories([world.session], [expected_poses(model, world.state, steps)])
        jobs = model.begin([world.state], [steps], [history])
        while jobs[0].steps_left:
            model.advance(jobs)
        [section] = model.finish(jobs)
        world.session.commit(section)
        world.remember()
        assert (model.decode([world.state], [section])[0][0] == together[now][1]).all()


def test_play_goes_on_without_holding_what_it_showed():
    model = TinyModel()
    controls = np.random.default_rng(0).uniform(-1, 1, (1, 300, 2)).astype(np.float32)
    frames = play(model, [Opening(image=None, prompt="", seed=0)], controls)
    assert sum(1 for _ in islice(frames, 300)) == 300


def test_the_cost_of_recall_is_per_size():
    spec = rooms().spec
    small, large = recall_cost(spec, entries=64, rounds=3), recall_cost(spec, entries=640, rounds=3)
    assert small.keys() == large.keys() == {"sequel_us", "view_us", "pose_us", "similar_us", "key_bytes", "bytes"}
    assert all(value > 0 for value in small.values())
    assert large["bytes"] - large["key_bytes"] == 640 * 2 * int(np.prod(spec.latent_shape))
    per_entry = (large["key_bytes"] - small["key_bytes"]) / 576
    assert 4 * (spec.feature_size + spec.num_rays) < per_entry < 4 * (spec.feature_size + spec.num_rays) + 100
