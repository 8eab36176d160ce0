"""The queue: jobs come, go and wait in their order, and none harms another."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from model.clips.job import JobError, try_lock
from model.clips.queue import (
    cancel_job,
    claim,
    claim_next,
    list_jobs,
    remove_job,
    retry_job,
    submit,
    sweep,
)
from model.clips.request import ClipRequest, Given, RequestError
from model.clips.timeline import TimelineError


class Folder:
    def __init__(self, path: Path) -> None:
        self.path, self.queue = path, path / "queue"

    def submit(self, name: str = "a.mp4", *, request: ClipRequest | None = None) -> str:
        return submit(self.queue, request or ClipRequest(), self.path / name, created=1.0)

    def states(self) -> dict[str, str]:
        return {job.name: job.state for job in list_jobs(self.queue)}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_jobs_run_in_the_order_they_came(folder: Folder) -> None:
    assert [folder.submit(f"{i}.mp4") for i in range(11)] == [f"{i:04d}" for i in range(1, 12)]
    names = []
    while (job := claim_next(folder.queue)) is not None:
        names.append(job.name)
        with job:
            job.fail("on purpose")
    assert names == [f"{i:04d}" for i in range(1, 12)]


def test_a_job_somebody_has_is_left_to_him(folder: Folder) -> None:
    first, second = folder.submit("a.mp4"), folder.submit("b.mp4")
    with claim(folder.queue, first) as job:
        job.begin()
        assert folder.states() == {first: "running", second: "waiting"}
        other = claim_next(folder.queue)
        assert other is not None
        with other:
            assert other.name == second
            assert claim_next(folder.queue) is None
        for action in (claim, remove_job, retry_job):
            with pytest.raises(JobError, match=first):
                action(folder.queue, first)
    assert folder.states() == {first: "waiting", second: "waiting"}


def test_given_files_are_copied(folder: Folder) -> None:
    image = folder.path / "i.png"
    image.write_bytes(b"picture")
    name = folder.submit(request=ClipRequest(given=Given(image=str(image))))
    image.unlink()
    with claim(folder.queue, name) as job:
        assert job.given("image").read_bytes() == b"picture"
        assert job.ticket.sha256 == {"image": hashlib.sha256(b"picture").hexdigest()}


@pytest.mark.parametrize(
    ("request_", "out", "error", "expected"),
    [
        (ClipRequest(), "a.avi", JobError, "name of an .mp4 file"),
        (ClipRequest(), "none/a.mp4", JobError, "folder that exists"),
        (ClipRequest(), "taken.mp4", JobError, "new file, got .*taken.mp4"),
        (ClipRequest(seconds=-1), "a.mp4", RequestError, "seconds"),
        (ClipRequest(timeline="[0s]"), "a.mp4", TimelineError, "position 3"),
        (ClipRequest(given=Given(image="none.png")), "a.mp4", JobError, "expected a file, got none.png"),
        (ClipRequest(given=Given(video="/")), "a.mp4", JobError, "expected a file, got /"),
    ],
)
def test_a_bad_job_is_none(
    folder: Folder, request_: ClipRequest, out: str, error: type[Exception], expected: str
) -> None:
    (folder.path / "taken.mp4").write_bytes(b"holiday")
    folder.submit("first.mp4")
    with pytest.raises(error, match=expected):
        folder.submit(out, request=request_)
    assert folder.states() == {"0001": "waiting"}
    assert [path.name for path in folder.queue.iterdir()] == ["0001"]
    assert (folder.path / "taken.mp4").read_bytes() == b"holiday"


def test_two_jobs_do_not_make_one_file(folder: Folder) -> None:
    name = folder.submit()
    with pytest.raises(JobError, match="of job 0001"):
        folder.submit()
    cancel_job(folder.queue, name)
    folder.submit()


def test_a_waiting_job_is_cancelled_and_tried_again(folder: Folder) -> None:
    name = folder.submit()
    with claim(folder.queue, name) as job:
        job.partial.write_bytes(b"half")
    cancel_job(folder.queue, name)
    assert folder.states() == {name: "cancelled"}
    assert not job.partial.exists()
    assert claim_next(folder.queue) is None
    with pytest.raises(JobError, match="it is cancelled"):
        claim(folder.queue, name)
    retry_job(folder.queue, name)
    assert folder.states() == {name: "waiting"}


def test_a_running_job_is_told_that_it_is_cancelled(folder: Folder) -> None:
    with claim(folder.queue, folder.submit()) as job:
        job.begin()
        job.partial.write_bytes(b"half")
        assert not job.is_cancelled()
        cancel_job(folder.queue, job.name)
        assert job.is_cancelled()
        assert job.partial.exists(), "whoever writes it tidies up"


def test_a_job_that_is_over_cannot_be_cancelled_but_tried_again(folder: Folder) -> None:
    with claim(folder.queue, folder.submit()) as job:
        job.fail("the disk is full")
    [listing] = list_jobs(folder.queue)
    assert (listing.state, listing.problem) == ("failed", "the disk is full")
    with pytest.raises(JobError, match="0001 is failed"):
        cancel_job(folder.queue, job.name)
    retry_job(folder.queue, job.name)
    assert folder.states() == {"0001": "waiting"}
    with pytest.raises(JobError, match="0001 is waiting"):
        retry_job(folder.queue, job.name)


def test_removing_leaves_finished_files(folder: Folder) -> None:
    with claim(folder.queue, folder.submit()) as job:
        job.partial.write_bytes(b"film")
        job.deliver()
    remove_job(folder.queue, job.name)
    assert list(folder.queue.iterdir()) == []
    assert (folder.path / "a.mp4").read_bytes() == b"film"


def test_a_removal_that_was_killed_is_swept_up(folder: Folder) -> None:
    folder.submit()
    (folder.queue / ".gone-0007-ab" / "x").mkdir(parents=True)
    assert len(folder.states()) == 1
    sweep(folder.queue)
    assert [path.name for path in folder.queue.iterdir()] == ["0001"]


def test_a_damaged_job_stands_in_nobodys_way(folder: Folder) -> None:
    bad, good = folder.submit("a.mp4"), folder.submit("b.mp4")
    (folder.queue / bad / "job.json").write_bytes(b"{")
    (folder.queue / "readme.txt").touch()
    (folder.queue / "0009").mkdir()
    assert folder.states() == {bad: "failed", good: "waiting"}
    job = claim_next(folder.queue)
    assert job is not None
    with job:
        assert job.name == good
    remove_job(folder.queue, bad)
    assert folder.states() == {good: "waiting"}


@pytest.mark.parametrize("name", ["", "1", "0002", "../queue/0001", "x"])
@pytest.mark.parametrize("action", [claim, cancel_job, retry_job, remove_job])
def test_names_that_are_none(folder: Folder, name: str, action: Callable[[Path, str], object]) -> None:
    folder.submit()
    with pytest.raises(JobError, match="expected the name of a job"):
        action(folder.queue, name)
    assert folder.states() == {"0001": "waiting"}


def test_progress_is_told_without_the_model(folder: Folder) -> None:
    name = folder.submit()
    assert [(job.sections, job.num_sections) for job in list_jobs(folder.queue)] == [(0, 0)]
    with claim(folder.queue, name) as job:
        job.note_size(num_sections=5, record_bytes=10)
        job.latents.write_bytes(b"x" * 25)
        assert [(job.sections, job.num_sections) for job in list_jobs(folder.queue)] == [(2, 5)]


def test_no_queue_has_no_jobs(tmp_path: Path) -> None:
    assert list_jobs(tmp_path / "none") == []
    assert claim_next(tmp_path / "none") is None


def test_locks_are_let_go_of_after_errors(folder: Folder) -> None:
    name = folder.submit()
    with pytest.raises(JobError):
        retry_job(folder.queue, name)
    lock = try_lock(folder.queue / name)
    assert lock is not None
    os.close(lock)
