"""The report: bars, gains and tables follow from the figures."""

import json

import numpy as np
import pytest

from model.evaluation.figures import Figures
from model.evaluation.report import BARS, Bar, flat_figures, markdown, shown, write_report
from model.evaluation.suite import Curves


def measured(ours: float = 24.0) -> Figures:
    figures = Figures()
    levels = {"off": 17.0, "recent": 18.0, "random": 19.0, "similar": 20.0, "oracle": 25.0, "other": 18.1, "ours": ours}
    for i in range(4):
        for name, level in levels.items():
            for key in ("rgt.all", "rgt.spin-90"):
                figures.add(f"{key}.reckoned.{name}.revisit.psnr", level + i, video=f"spin-90/{i}")
            figures.add(f"close.spin-360.reckoned.{name}.psnr", level - i, video=f"spin-360/{i}")
    figures.add("step.psnr", 29.0, video="forward/1")
    return figures


def test_gains_are_paired_and_shared_with_the_oracle():
    flat = flat_figures(measured())
    assert flat["gain.ours_over_recent"] == 6.0 == flat["gain.ours_over_recent.low"]
    assert flat["gain.other_over_recent"] == pytest.approx(0.1)
    assert flat["gain.share_of_oracle"] == pytest.approx(6 / 7, abs=1e-4)


def test_bars_hold_or_not_and_only_where_measured():
    good, bad = flat_figures(measured()), flat_figures(measured(ours=19.5))
    assert good["bar.rgt.all.reckoned.ours.revisit.psnr"] == 1 and bad["bar.rgt.all.reckoned.ours.revisit.psnr"] == 0
    assert good["bar.gain.ours_over_similar.low"] == 1 and bad["bar.gain.ours_over_similar.low"] == 0
    assert bad["bar.gain.ours_over_random.low"] == 1 and bad["bar.gain.share_of_oracle"] == 0
    assert good["bar.step.psnr"] == 1
    assert "bar.autopilot.unsteady" not in good


def test_a_bar_may_have_two_ends():
    bar = Bar("motion", "motion", least=0.9, most=1.1)
    assert bar.holds({"motion": 1.0}) and not bar.holds({"motion": 0.8}) and not bar.holds({"motion": 1.2})
    assert bar.wanted == "at least 0.9 and at most 1.1"
    assert len({bar.key for bar in BARS}) == len(BARS)


def test_tables_show_every_method_and_its_interval():
    flat = flat_figures(measured())
    text = markdown(flat, about="a test")
    assert "a test" in text and "## Bars" in text and "## R-CLOSE" in text
    rows = [line for line in text.splitlines() if line.startswith("| ours |")]
    assert any("25.50 (24" in row for row in rows) and any("22.50 (21" in row for row in rows)
    assert shown(flat, "nothing") == "-" and "(" not in shown(flat, "step.psnr")


def test_the_report_is_written_whole(tmp_path):
    curves = Curves()
    curves.gaps["ours"], curves.scores["ours"] = [np.array([25, 90])], [np.array([24.0, 22.0])]
    curves.forward.append(np.linspace(30, 20, 64))
    curves.long["truth"] = [np.ones((300, 4)), np.zeros((300, 4))]
    flat = write_report(measured(), curves, out=tmp_path / "out", about="a test")
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == flat
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "figures.json", "report.md", "gap.png", "forward.png", "long.png"
    }  # fmt: skip
