"""Clips on a console: the picture has the frame's colours, the bar the clip's progress."""

import logging
from io import StringIO
from pathlib import Path

import numpy as np
from rich.console import Console

from model.clips.making import Progress
from model.clips.queue import claim, list_jobs, submit
from model.clips.request import ClipRequest
from server.clip_view import UPPER_HALF, View, picture, table


def console(*, terminal: bool = True) -> Console:
    return Console(file=StringIO(), force_terminal=terminal, color_system="truecolor", width=100)


def printed(out: Console) -> str:
    assert isinstance(out.file, StringIO)
    return out.file.getvalue()


def test_a_picture_has_two_pixels_in_a_character() -> None:
    frame = np.zeros((8, 8, 3), np.uint8)
    frame[:4, :, 0], frame[4:, :, 2] = 200, 100
    out = console()
    out.print(picture(frame, columns=4))
    rows = printed(out).splitlines()[:2]
    assert [row.count(UPPER_HALF) for row in rows] == [4, 4]
    assert "38;2;200;0;0;48;2;200;0;0" in rows[0]
    assert "38;2;0;0;100;48;2;0;0;100" in rows[1]


def submitted(tmp_path: Path, name: str = "a.mp4") -> str:
    return submit(tmp_path / "queue", ClipRequest(seconds=2), tmp_path / name, created=1.0)


def test_progress_shows_steps_and_the_newest_picture(tmp_path: Path) -> None:
    out = console()
    with claim(tmp_path / "queue", submitted(tmp_path)) as job, View(out) as view:
        view.tell(job, Progress(3, 10, 1, 4, np.full((8, 8, 3), 77, np.uint8)))
        view._live.refresh()
    shown = printed(out)
    assert "0001 a.mp4" in shown
    assert "13/40" in shown
    assert "48;2;77;77;77" in shown


def test_without_a_terminal_there_is_no_picture(tmp_path: Path) -> None:
    out = console(terminal=False)
    with claim(tmp_path / "queue", submitted(tmp_path)) as job, View(out) as view:
        view.tell(job, Progress(3, 10, 1, 4, np.full((8, 8, 3), 77, np.uint8)))
    assert UPPER_HALF not in printed(out)


def test_the_table_tells_of_each_job(tmp_path: Path) -> None:
    names = [submitted(tmp_path, f"[red]{i}.mp4") for i in range(3)]
    with claim(tmp_path / "queue", names[0]) as job:
        job.fail("the disk [bold]is full")
    (tmp_path / "queue" / names[1] / "job.json").write_bytes(b"")
    out = Console(file=StringIO(), width=400)
    out.print(table(list_jobs(tmp_path / "queue")))
    first, second, third = printed(out).splitlines()[3:6]
    assert "failed" in first and "the disk [bold]is full" in first and "[red]0.mp4" in first
    assert "failed" in second and "job.json" in second
    assert "waiting" in third and "0/?" in third


def test_what_a_model_logs_is_shown_while_a_clip_is_made() -> None:
    out, logger = console(), logging.getLogger("model.large.assemble")
    level = logging.getLogger("model").level
    logger.info("before")
    with View(out):
        logger.info("a plan: [6.0 GB]")
        logger.debug("a detail")
    logger.info("after")
    assert "a plan: [6.0 GB]" in printed(out)
    assert not any(word in printed(out) for word in ("before", "detail", "after"))
    assert logging.getLogger("model").level == level
