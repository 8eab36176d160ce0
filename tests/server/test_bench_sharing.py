"""What sharing is worth, measured on models whose answer is known."""

import os
import time
from collections.abc import Sequence
from functools import partial

import pytest
from typer.testing import CliRunner

from model.threads import num_threads, use_threads
from server.bench_sharing import WAYS, bench_sharing, race
from server.cli import app
from tests.server.tiny_model import TinyJob, TinyModel, TinyState

STEP = 0.01  # seconds


class BatchingModel(TinyModel):
    """A step takes as long for four sessions as for one."""

    def advance(self, jobs: Sequence[TinyJob]) -> None:
        time.sleep(STEP)
        super().advance(jobs)


class DyingModel(BatchingModel):
    def open(self, **_: object) -> TinyState:
        os._exit(3)


def test_a_model_that_batches_well_is_worth_sharing() -> None:
    """Two steps a section, four sessions, batches of two."""
    make = partial(BatchingModel, max_batch=2)
    figures = bench_sharing(make(), make, sessions=[1, 4], seconds=0.4)
    assert set(figures) == {
        "sharing.frame_rate",
        *(f"sharing.n{n}.{way}.{name}" for n in (1, 4) for way in WAYS for name in ("fps", "rss_mb")),
        *(f"sharing.{way}.full_rate_sessions" for way in WAYS),
    }
    most = 1 / (2 * STEP)
    assert figures["sharing.n4.batched.fps"] < most / 2
    assert figures["sharing.n4.in_turn.fps"] < most / 4
    assert figures["sharing.n4.batched.fps"] > 1.3 * figures["sharing.n4.in_turn.fps"]
    assert figures["sharing.n4.processes.rss_mb"] > 2 * figures["sharing.n1.processes.rss_mb"] > 0
    assert figures["sharing.batched.full_rate_sessions"] == pytest.approx(
        max(n * figures[f"sharing.n{n}.batched.fps"] for n in (1, 4)) / 50.0
    )


def test_processes_share_the_threads_and_one_that_dies_is_no_result() -> None:
    before = num_threads()
    use_threads(3)
    try:
        assert len(race(partial(BatchingModel, frames_per_latent=2), 2, seconds=0.05)) == 2
        with pytest.raises(EOFError):
            race(DyingModel, 1, seconds=0.05)
    finally:
        use_threads(before)


@pytest.mark.slow
@pytest.mark.weights
def test_the_command_prints_a_row_for_each_count() -> None:
    ran = CliRunner().invoke(app, ["bench", "--frames=20", "--sessions=1", "--entries=200", "--shared=1"])
    assert ran.exit_code == 0, ran.output
    for words in ("fps of each, in turn", "MB, processes", "sharing.n1.processes.fps"):
        assert words in ran.output
