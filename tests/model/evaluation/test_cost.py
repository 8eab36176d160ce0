"""What history costs, on a small model: measured in processes of their own, and honest about what does not fit."""

import sys
from pathlib import Path

import pytest

from model.evaluation.cost import Cost, Setting, costs, plot_costs, schedule_for
from model.packing.schedule import Schedule

from .retraced import lay_out

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("world"))[0]


def test_full_context_shows_everything_and_a_window_as_many_tokens_as_the_packed_one() -> None:
    for length in (10, 9_999, 100_000):
        schedule = Schedule.parse(schedule_for("full", length))
        assert sum(segment.frames for segment in schedule.past) == length
    assert schedule_for("window", 10) == schedule_for("window", 10_000) == "td_f4k1_g1"
    assert schedule_for("packed", 10) == schedule_for("packed", 10_000)


def test_packed_context_is_flat_and_full_context_is_not(weights: Path) -> None:
    small = {"weights": weights, "steps": 3}
    settings = [Setting("packed", 10, **small), Setting("packed", 1_500, **small), Setting("full", 1_500, **small)]
    short, long, full, unfit = costs([*settings, Setting("full", 1_500, limit=64 << 20, **small)])
    assert short.tokens == long.tokens == 288
    assert full.tokens == 96_000
    assert short.ms and long.ms and full.ms and short.mb and long.mb and full.mb
    assert long.ms < 2 * short.ms and long.mb < 1.5 * short.mb
    assert full.ms > 3 * long.ms and full.mb > 3 * long.mb
    assert unfit == Cost("full", 1_500, 96_000)


def test_the_plot_leaves_out_what_did_not_fit(tmp_path: Path) -> None:
    rows = [Cost(way, length, 1, 2.0, 3.0) for way in ("packed", "window") for length in (10, 100)]
    plot_costs([*rows, Cost("full", 10, 640, 2.0, 3.0), Cost("full", 100, 6400)], tmp_path / "cost.png")
    assert (tmp_path / "cost.png").stat().st_size > 1000
