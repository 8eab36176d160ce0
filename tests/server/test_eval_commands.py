"""`rewander eval` refuses what there is not, before any weights are read."""

import re
from pathlib import Path

from typer.testing import CliRunner

from model.evaluation.sets import SETS
from server.eval_commands import SETS_HELP, app


def said(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "400", "TERM": "dumb"})
    assert result.exit_code == 2
    return result.output


def test_a_set_that_there_is_not_is_refused(tmp_path: Path) -> None:
    output = said("--set", "walk-doom-deathmatch", "--set", "wlak", "--out", str(tmp_path))
    assert "got wlak" in output and "walk-doom-deathmatch" in output and not list(tmp_path.iterdir())


def test_the_help_names_sets_of_every_kind_that_there_are() -> None:
    named = set(re.findall(r"[a-z]+(?:-[a-z0-9]+)+", SETS_HELP))
    assert {name for name in SETS if "doom" in name} <= named <= SETS.keys()
