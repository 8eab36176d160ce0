"""`rewander eval drift` from the command line on a small model."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.evaluation.trials import Trials
from server.cli import app
from server.tables import TableOptions, make_tables
from tests.model.evaluation.retraced import lay_out

TOKENS = {"packed": 288, "window": 256, "full": 640}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return lay_out(tmp_path_factory.mktemp("world"))


def test_the_command_makes_tables_plots_and_json(places: tuple[Path, Path], tmp_path: Path) -> None:
    weights, frozen = places
    small = ["--videos", "1", "--seeds", "2", "--frames", "2", "--threads", "1", "--weights", str(weights)]
    where = ["--frozen", str(frozen), "--out", str(tmp_path)]
    chosen = ["--part", "alternatives", "--only", "recall", "--only", "as trained", "--part", "cost", "--length", "10"]
    known = [{"way": way, "length": 10, "tokens": n, "ms": 1, "mb": 2} for way, n in TOKENS.items()]
    (tmp_path / "cost.json").write_text(json.dumps(known))  # a part that was done before is not done again
    done = CliRunner().invoke(app, ["eval", "drift", *small, *where, *chosen])
    assert done.exit_code == 0, done.output
    assert "| shipped, with recall `f1k1f4s2f1s1f16k4f2k2f1k1_g1` | shipped |" in done.output
    assert "more noise on history drifts less (as trained)" in done.output
    assert "| packed | 10 | 288 |" in done.output and "| full | 10 | 640 |" in done.output
    assert (tmp_path / "drift.md").read_text() in done.output
    figures = json.loads((tmp_path / "drift.json").read_text())
    assert len(figures["alternatives.shipped, with recall"]["figures"]["psnr"]) == 2
    assert {"noise.png", "cost.png", "cost.json"} <= {path.name for path in tmp_path.iterdir()}


def test_what_there_is_not_is_refused(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    with pytest.raises(ValueError, match="schedules.*dance"):
        make_tables(TableOptions(trials, parts=("dance",)), tell=[].append)
    with pytest.raises(ValueError, match="geometric.*nothing like it"):
        make_tables(TableOptions(trials, parts=("schedules",), only=("nothing like it",)), tell=[].append)
    missing = ["--weights", str(tmp_path), "--out", str(tmp_path), "--part", "codebooks"]
    refused = CliRunner().invoke(app, ["eval", "drift", *missing])
    assert refused.exit_code == 2 and "No such file" in refused.output


def test_eval_alone_still_runs_the_protocols(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["eval", "--protocol", "dance", "--out", str(tmp_path)])
    assert refused.exit_code == 2 and "dance" in refused.output
