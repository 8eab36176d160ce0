"""A job: what its files say survives whoever writes them."""

import os
from pathlib import Path

import msgspec
import pytest

from model.clips.job import MAX_DEATHS, Job, JobError, Ticket, is_alive, settled, state_of, try_lock, write_file
from model.clips.request import ClipRequest, Given


def new_job(tmp_path: Path, *, request: ClipRequest | None = None) -> Path:
    folder = tmp_path / "0001"
    folder.mkdir()
    write_file(folder / "job.json", Ticket(request or ClipRequest(), str(tmp_path / "a.mp4"), 1.0, "ab", {}))
    (folder / "lock").touch()
    return folder


def locked(folder: Path) -> Job:
    lock = try_lock(folder)
    assert lock is not None
    return Job(folder, lock)


def test_one_at_a_time_has_a_job(tmp_path: Path) -> None:
    folder = new_job(tmp_path)
    with locked(folder) as job:
        assert try_lock(folder) is None
        assert state_of(folder) == "waiting"
        job.begin()
        assert state_of(folder) == "running"
        assert is_alive(folder)
    assert state_of(folder) == "waiting"
    locked(folder).close()


def test_a_job_that_is_removed_has_no_lock(tmp_path: Path) -> None:
    folder = new_job(tmp_path)
    (folder / "lock").unlink()
    assert try_lock(folder) is None


def test_a_delivered_file_is_whole_and_alone(tmp_path: Path) -> None:
    folder = new_job(tmp_path, request=ClipRequest(given=Given(image="x.png")))
    for name in ("latents", "image"):
        (folder / name).write_bytes(b"x")
    with locked(folder) as job:
        job.partial.write_bytes(b"film")
        job.deliver()
    assert (tmp_path / "a.mp4").read_bytes() == b"film"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.mp4"]
    assert state_of(folder) == "done"
    assert not {"latents", "image"} & {path.name for path in folder.iterdir()}


def test_a_file_of_others_is_never_overwritten(tmp_path: Path) -> None:
    with locked(new_job(tmp_path)) as job:
        job.partial.write_bytes(b"film")
        job.out.write_bytes(b"holiday")
        with pytest.raises(JobError, match=r"a.mp4 to be free"):
            job.deliver()
        assert job.out.read_bytes() == b"holiday"


def test_a_delivery_that_was_killed_is_known(tmp_path: Path) -> None:
    with locked(new_job(tmp_path)) as job:
        job.partial.write_bytes(b"film")
        assert not job.is_delivered()
        os.link(job.partial, job.out)
        assert job.is_delivered()
        job.deliver()
        assert state_of(job.folder) == "done"
        assert not job.partial.exists()
        assert job.out.read_bytes() == b"film"


def test_a_job_that_ends_processes_is_given_up(tmp_path: Path) -> None:
    folder = new_job(tmp_path)
    for _ in range(MAX_DEATHS):
        with locked(folder) as job:
            job.begin()
            job.note_size(num_sections=9, record_bytes=10)
            job.latents.write_bytes(b"x" * 40)
    with locked(folder) as job, pytest.raises(JobError, match="survive section 5, 3 died of it"):
        job.begin()


def test_processes_that_get_on_may_die_often(tmp_path: Path) -> None:
    folder = new_job(tmp_path)
    for i in range(3 * MAX_DEATHS):
        with locked(folder) as job:
            job.begin()
            job.latents.write_bytes(b"x" * i)


def test_ending_in_order_is_no_death(tmp_path: Path) -> None:
    folder = new_job(tmp_path)
    for _ in range(3 * MAX_DEATHS):
        with locked(folder) as job:
            job.begin()
            job.pause()


def test_interruptions_are_remembered(tmp_path: Path) -> None:
    folder = new_job(tmp_path)
    for section in (7, 3, 7):
        with locked(folder) as job:
            job.note_interruption(section)
    with locked(folder) as job:
        assert job.attempt.interruptions == (3, 7)


@pytest.mark.parametrize("name", ["job.json", "attempt.json", "finished.json"])
@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff"])
def test_a_job_that_cannot_be_read_has_failed(tmp_path: Path, name: str, data: bytes) -> None:
    folder = new_job(tmp_path)
    (folder / name).write_bytes(data)
    if (name, data) == ("attempt.json", b"{}"):
        assert settled(folder) == "waiting"
        return
    assert state_of(folder) == "failed"
    assert name in settled(folder).problem  # type: ignore[union-attr]


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    write_file(path, ClipRequest(seed=1))
    write_file(path, ClipRequest(seed=2))
    assert msgspec.json.decode(path.read_bytes(), type=ClipRequest).seed == 2
    assert list(tmp_path.iterdir()) == [path]
