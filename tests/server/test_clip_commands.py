"""The commands about clips: what they leave behind, done or not."""

import os
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from model.clips.queue import list_jobs, submit
from model.clips.request import ClipRequest, Given
from server.clip_commands import CLIP_ERRORS, generate, request_of, run, show
from tests.model.clips.videos import read_video

from .tiny_model import TinyModel

REQUEST = ClipRequest(model="tiny", seconds=0.2, timeline="[0s: turn=1]")


def console() -> Console:
    return Console(file=StringIO(), width=200)


def printed(out: Console) -> str:
    assert isinstance(out.file, StringIO)
    return out.file.getvalue()


def make(tmp_path: Path, request: ClipRequest = REQUEST) -> str:
    queue, out = tmp_path / "queue", tmp_path / "a.mp4"
    return generate(request, out, queue=queue, load=lambda _: TinyModel(), console=console()).state


def test_a_generated_clip_is_all_that_is_left(tmp_path: Path) -> None:
    assert make(tmp_path) == "done"
    assert len(read_video(tmp_path / "a.mp4")) == 10
    assert list_jobs(tmp_path / "queue") == []
    assert request_of(tmp_path / "a.mp4") == REQUEST


@pytest.mark.parametrize(
    "request_",
    [
        ClipRequest(model="tiny", timeline="[0s: jump=1]"),
        ClipRequest(model="tiny", seconds=-1),
        ClipRequest(model="tiny", given=Given(image="none.png")),
        ClipRequest(model="tiny", given=Given(end=__file__)),
        ClipRequest(model="tiny", given=Given(video=__file__)),
        ClipRequest(model="tiny", order="inverted"),
        ClipRequest(model="tiny", size=(16, 512)),
    ],
)
def test_what_cannot_be_made_leaves_nothing(tmp_path: Path, request_: ClipRequest) -> None:
    with pytest.raises(CLIP_ERRORS, match="expected|No such file"):
        make(tmp_path, request_)
    assert list_jobs(tmp_path / "queue") == []
    assert [name for name in os.listdir(tmp_path) if name != "queue"] == []


def test_a_file_that_exists_is_known_before_the_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"holiday")

    def load(_name: str) -> TinyModel:
        raise AssertionError("it takes minutes")

    with pytest.raises(CLIP_ERRORS, match="which exists"):
        generate(REQUEST, tmp_path / "a.mp4", queue=tmp_path / "queue", load=load, console=console())
    assert (tmp_path / "a.mp4").read_bytes() == b"holiday"


def test_a_queue_is_run_and_shown(tmp_path: Path) -> None:
    queue, out = tmp_path / "queue", console()
    submit(queue, REQUEST, tmp_path / "a.mp4", created=1.0)
    submit(queue, ClipRequest(model="tiny", order="planned"), tmp_path / "b.mp4", created=1.0)
    assert [ended.state for ended in run(queue, load=lambda _: TinyModel(), console=out)] == ["done", "failed"]
    assert f"0001 done: {tmp_path / 'a.mp4'}" in printed(out)
    assert "0002 failed: expected the order vanilla" in printed(out)
    out = console()
    show(queue, console=out)
    assert "10/10" in printed(out)
