"""`rewander eval recall` on a small model: what is run, what is saved, and what the table says."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.evaluation.sets import SETS, save
from model.rooms.world import load
from server.cli import app
from server.recall_rows import COARSE, FINE, rows
from server.recall_table import RecallOptions, Result, make_recall_table, markdown, retelling_of, run_rows, tokens_of
from tests.model.evaluation.retraced import lay_out
from tests.model.evaluation.synthetic import there_and_back, video_of

SET = "moving"  # the shortest
ROWS = {row.name: row for row in rows()}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> RecallOptions:
    """Weights of a small model, and two walks in place of a set's."""
    folder = tmp_path_factory.mktemp("world")
    weights, frozen = lay_out(folder)
    for number in range(2):
        poses = there_and_back(SETS[SET].length // 2)
        poses[:, :2] += 0.3 * number
        save(video_of(poses, seed=number), frozen / SET / f"{number:03d}.safetensors", name=SET)
    return RecallOptions(folder / "out", frozen, weights, sets=(SET,), videos=2)


def test_rows_are_run_once_and_compared_with_ours(options: RecallOptions) -> None:
    heard: list[str] = []
    everything = ROWS["keep all"]  # random weights see the same in all frames
    assert everything.policy is not None
    one = replace(everything, policy=replace(everything.policy, num=1))
    chosen = [everything, ROWS["off"], one, replace(everything, retold="one age")]
    found = list(run_rows(chosen, options, tell=heard.append))
    full, off, single, aged = (result for _, result in found)
    assert full.memories == aged.memories > single.memories == 1 > off.memories == 0
    assert full.tokens == aged.tokens > single.tokens == 224 > off.tokens == 160
    scores = [result.scores["revisit.psnr"] for _, result in found]
    assert all(set(row) == {f"{SET}/0", f"{SET}/1"} for row in scores)
    assert len({json.dumps(row) for row in scores}) == len(chosen)
    timed = [line for line in heard if line[0].isdigit()]
    assert len(timed) == len(chosen)
    assert list(run_rows(chosen, options, tell=heard.append)) == found and len(heard) == len(timed)
    list(run_rows(chosen[1:2], replace(options, videos=1), tell=heard.append))
    assert len(heard) > len(timed)


def test_the_table_says_how_far_a_row_is_from_ours() -> None:
    ours, other = (
        Result(
            num, 288, 1.5, {"revisit.psnr": {"a": [20.0 + up], "b": [30.0 + up]}, "novel.psnr": {"a": [float("nan")]}}
        )
        for num, up in ((5, 0.0), (1, -2.0))
    )
    text = markdown([(ROWS["ours"], ours), (ROWS["1 memory"], other)], RecallOptions(Path("nowhere")))
    assert "| ours | 25.00 (20.00 to 30.00) | - | - | 5.0 | 288 | 1.5 |" in text
    assert "| 1 memory | 23.00 (18.00 to 28.00) | -2.00 (-2.00 to -2.00) | - | 1.0 |" in text
    assert "- 1 memory: in full." in text and "## What is asked" not in text


def test_tokens_are_of_slots_that_show_something(options: RecallOptions) -> None:
    for schedule, tokens in ((ROWS["ours"].schedule, [160, 224, 240, 288]), (FINE, [160, 224, 288, 480])):
        model = load(options.weights, schedule=schedule)
        assert [tokens_of(model, num) for num in (0, 1, 2, 5)] == tokens
        assert tokens[-1] == model.spec.context_tokens
    assert tokens_of(load(options.weights, schedule=COARSE), 5) == 240


def test_memories_are_retold_where_a_row_says_so(options: RecallOptions) -> None:
    model = load(options.weights)
    assert {row.name for row in rows() if retelling_of(row, model)} == {"one age", "discretized", "noisy"}


def test_the_command_writes_the_table(options: RecallOptions) -> None:
    small = ["--videos", "2", "--set", SET, "--threads", "1", "--only", "off"]
    where = ["--frozen", str(options.frozen), "--out", str(options.out), "--weights", str(options.weights)]
    done = CliRunner().invoke(app, ["eval", "recall", *small, *where])
    assert done.exit_code == 0, done.output
    assert (options.out / "recall.md").read_text() in done.output and "| off | " in done.output


def test_words_that_no_row_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sources.*ours.*got dance"):
        make_recall_table(RecallOptions(tmp_path, only=("dance",)), tell=[].append)
    refused = CliRunner().invoke(app, ["eval", "recall", "--weights", str(tmp_path), "--out", str(tmp_path)])
    assert refused.exit_code == 2 and "No such file" in refused.output
