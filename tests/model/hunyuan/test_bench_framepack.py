"""The benchmark of the 13 B model at a reduced width on the CPU: every case runs, and ours equals diffusers'."""

import pytest

from .bench_framepack import CASES, main


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
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
        "small",
    }
    for name in names:
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
