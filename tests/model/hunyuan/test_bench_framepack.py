"""The benchmark of the 13 B model at a reduced width on the CPU: every case runs, and ours equals diffusers'."""

import pytest

from .bench_framepack import CASES, Figures, bars, main, verdicts


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
    """All but what compiles, which takes a minute."""
    return main(["--small", "--steps=2", "--only", *(case for case in CASES if case != "compile")])


def test_every_case_has_its_figures(figures: dict[str, float]) -> None:
    names = {key.rpartition(".")[0] for key in figures} - {""}
    assert names >= {
        "theirs",
        "ours",
        "attention.native",
        "teacache",
        "first-block",
        "sessions.2",
        "sessions.4",
        "quantized.fp8",
        "small",
        "bar",
    }
    for name in names - {"bar"}:
        step, decode, frame = (figures[f"{name}.{key}_seconds"] for key in ("step", "decode", "frame"))
        assert step > 0 and decode > 0
        count = int(name[-1]) if name.startswith("sessions") else 1
        assert frame == pytest.approx((25 * step / count + decode) / 12)
    assert figures["ceiling"] > 1e7


@pytest.mark.parametrize("name", ["ours", "attention.native", "sessions.4", "small"])
def test_it_makes_what_diffusers_makes(figures: dict[str, float], name: str) -> None:
    assert figures[f"{name}.equal"] < 1e-4


def test_a_cache_leaves_out_no_first_and_no_last_step(figures: dict[str, float]) -> None:
    assert figures["teacache.ran"] == figures["first-block.ran"] == 1


def test_utilisation_is_what_the_step_needs_over_what_the_ceiling_gives(figures: dict[str, float]) -> None:
    one, two = (figures[f"{name}.utilisation"] * figures[f"{name}.step_seconds"] for name in ("ours", "sessions.2"))
    assert two == pytest.approx(2 * one)
    assert 0 < figures["ours.utilisation"] < 1


def test_bars_are_told_with_what_was_reached(figures: dict[str, float]) -> None:
    best = min(figures[f"{name}.frame_seconds"] for name in ("ours", "attention.native"))
    assert figures["bar.speed"] >= figures["theirs.frame_seconds"] / best > 0
    assert {"bar.cached", "bar.small"} <= set(figures)
    rows = {name: Figures(1, 1, seconds, 5.5, 0.5) for name, seconds in SECONDS.items()}
    assert list(verdicts(bars(rows))) == [
        "bar.speed: 1.60 of 1.3, reached",
        "bar.cached: 1.78 of 2.0, not reached",
        "bar.small: 5.50 of 6.0, reached",
    ]
    assert bars({"ours": rows["ours"]}) == {}


SECONDS = {
    "theirs": 1.6,
    "ours": 1.2,
    "attention.flash": 1.0,
    "compile.teacache": 0.9,
    "quantized.fp8": 0.1,
    "small": 9,
}


def test_a_case_without_time_left_is_not_begun(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(main(["--small", "--seconds=-1", "--only", "ours"])) == {"ceiling"}
    assert "ours: TimeoutError: not begun" in capsys.readouterr().err


@pytest.mark.slow
def test_compiled_blocks_make_what_diffusers_makes() -> None:
    figures = main(["--small", "--steps=2", "--only", "theirs", "compile"])
    assert figures["compile.equal"] < 1e-4 and figures["compile.teacache.equal"] < 1e-4
