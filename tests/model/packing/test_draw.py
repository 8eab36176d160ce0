"""The table and the picture say what the schedule is."""

import re
from io import StringIO
from xml.etree import ElementTree

import pytest
from rich.console import Console

from model.packing.draw import MAX_DRAWN, describe, picture
from model.packing.families import PRESETS
from model.packing.schedule import Schedule

LIVE = "f1k1f4s2f1s1f16k4f2k2f1k1_g1"
SVG = "{http://www.w3.org/2000/svg}"


def printed(name, grid, **options):
    console = Console(width=120, record=True, file=StringIO())
    console.print(describe(Schedule.parse(name), grid, **options))
    return console.export_text()


def test_the_table_has_a_row_per_segment():
    rows = [re.split(r"\s*│\s*", line)[1:-1] for line in printed(LIVE, (16, 16)).splitlines() if line.startswith("│")]
    assert rows[1] == ["recalled", "f4s2", "4", "1 x 4 x 4", "64", "18.2 %", "1..4 or their own"]
    assert rows[3] == ["recent", "f16k4", "16", "4 x 8 x 8", "16", "4.5 %", "6..21"]
    assert rows[6] == ["target", "g1", "1", "1 x 2 x 2", "64", "18.2 %", "25"]
    assert rows[7][4:] == ["352", "", "288 + 64"]


def test_the_table_follows_the_gap_and_says_what_is_special():
    text = printed("tc_f1k1_g9_x_f1k1+D", (60, 104), gap=7)
    assert "│ 17 " in text
    assert "tail: one token, history from a codebook" in " ".join(text.split())


def bars(name, grid):
    root = ElementTree.fromstring(picture(Schedule.parse(name), grid))
    return [(float(r.get("x")), float(r.get("width"))) for r in root.iter(f"{SVG}rect") if r.get("x")]


@pytest.mark.parametrize("name", [*PRESETS.values(), LIVE, "f1k1_x_g9_f1k1f2k2f16k4_td"])
def test_bars_share_the_width_as_segments_share_the_tokens(name):
    schedule, grid = Schedule.parse(name), (64, 96)
    drawn = bars(name, grid)
    tokens = [s.tokens(grid) for s in (*schedule.past, *schedule.future)]
    tokens.insert(len(schedule.past), schedule.target_tokens(grid))
    whole = sum(width for _, width in drawn)
    assert [width / whole for _, width in drawn] == pytest.approx([t / sum(tokens) for t in tokens], abs=1e-4)
    for (left, width), (right, _) in zip(drawn, drawn[1:], strict=False):
        assert left + width == pytest.approx(right, abs=0.1)


def lines(name):
    root = ElementTree.fromstring(picture(Schedule.parse(name), (64, 64)))
    return [path.get("d").count("M") - 1 for path in root.iter(f"{SVG}path") if path.get("stroke")]


def test_a_box_has_a_line_at_every_token():
    assert lines("f16k4f2k2f1k1_g1") == [1 + 1] * 4 + [3 + 3] + [7 + 7] + [7 + 7]
    assert lines("f2s4f1k1h2w8_g1") == [1 + 1] * 2 + [7 + 1] + [7 + 7]


def test_long_segments_are_hinted_at():
    svg = picture(Schedule.parse("f9999k1_g9"), (16, 16))
    assert "f9999k1 ..." in svg
    assert len(lines("f9999k1_g9")) == MAX_DRAWN + 9


def test_skipped_frames_show():
    assert ">x<" in picture(Schedule.parse("td_f1k1_g9_x_f1k1"), (16, 16))
    assert ">x<" in picture(Schedule.parse("f1k1_x_g9_f1k1"), (16, 16))
    assert ">x<" not in picture(Schedule.parse("f1k1_g9"), (16, 16))
