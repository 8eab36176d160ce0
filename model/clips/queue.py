"""A queue of jobs in a folder. Any process may list, cancel and remove jobs while others run them."""

import hashlib
import os
import re
import secrets
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .job import (
    Finished,
    Job,
    JobError,
    State,
    Ticket,
    partial_of,
    read_attempt,
    read_file,
    settled,
    size_of,
    state_of,
    try_lock,
    write_file,
)
from .request import ClipRequest, check_values

MAX_VIDEO_BYTES = 4 << 30  # given files are copied, so that their owner may delete them
MAX_IMAGE_BYTES = 64 << 20

_NAME = re.compile(r"\d{4,9}")


@dataclass(frozen=True, slots=True)
class Listing:
    """What can be told of a job without running it."""

    name: str
    state: State
    ticket: Ticket | None  # None if it cannot be read
    sections: int = 0  # made
    num_sections: int = 0  # 0 before it has begun
    problem: str = ""


def submit(queue: Path, request: ClipRequest, out: Path, *, created: float) -> str:
    """Put a job at the end of the queue; returns its name. `created` in seconds since 1970.

    Raises RequestError, TimelineError, JobError or OSError, and then there is no job.
    """
    check_values(request)
    queue.mkdir(parents=True, exist_ok=True)
    check_out(queue, out)
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=queue))
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        digests = {name: _copy(path, folder / name) for name, path in request.given.files().items()}
        write_file(folder / "job.json", Ticket(request, str(out.absolute()), created, secrets.token_hex(4), digests))
        (folder / "lock").touch()
        name = _enter(queue, folder)
        undo.pop_all()
    return name


def list_jobs(queue: Path) -> list[Listing]:
    """All jobs in their order."""
    return [_describe(folder) for folder in _folders(queue) if (folder / "lock").exists()]


def claim(queue: Path, name: str) -> Job:
    """Lock a waiting job to run it; raises JobError if it is in use or not waiting."""
    folder = _folder(queue, name)
    job = _claim(folder)
    if job is None:
        raise JobError(f"expected job {name} to be waiting, it is {state_of(folder)}")
    return job


def claim_next(queue: Path) -> Job | None:
    """Lock the first waiting job that no other process has; None if there is none."""
    waiting = (folder for folder in _folders(queue) if settled(folder) == "waiting")
    return next((job for folder in waiting if (job := _claim(folder)) is not None), None)


def cancel_job(queue: Path, name: str) -> None:
    """Stop a job at its next step, or before it begins; raises JobError if it is over already."""
    folder = _folder(queue, name)
    if isinstance(now := settled(folder), Finished):
        raise JobError(f"expected a job that is not over, {name} is {now.state}")
    (folder / "cancel").touch()
    lock, ticket = try_lock(folder), _ticket(folder)
    if lock is not None and ticket is not None:  # nobody is at it who would tidy up
        partial_of(ticket).unlink(missing_ok=True)
    _unlock(lock)


def retry_job(queue: Path, name: str) -> None:
    """Let a failed or cancelled job go on from its last section; raises JobError for others."""
    folder = _folder(queue, name)
    lock = try_lock(folder)
    if lock is None or state_of(folder) not in ("failed", "cancelled"):
        _unlock(lock)
        raise JobError(f"expected a job that failed or was cancelled, {name} is {state_of(folder)}")
    try:
        Job(folder, lock).pause()
        for marker in ("finished.json", "cancel"):
            (folder / marker).unlink(missing_ok=True)
    finally:
        _unlock(lock)


def remove_job(queue: Path, name: str) -> None:
    """Delete a job that no process has, and its unfinished file; finished files stay. Raises JobError."""
    folder = _folder(queue, name)
    lock = try_lock(folder)
    if lock is None:
        raise JobError(f"expected job {name} to be free, a process is at it: cancel it first")
    try:
        if (ticket := _ticket(folder)) is not None:
            partial_of(ticket).unlink(missing_ok=True)
        shutil.rmtree(folder.rename(queue / f".gone-{name}-{secrets.token_hex(4)}"))
    finally:
        _unlock(lock)


def sweep(queue: Path) -> None:
    """Delete what a removal that was killed has left."""
    for folder in queue.glob(".gone-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _describe(folder: Path) -> Listing:
    now, ticket = settled(folder), _ticket(folder)
    problem = now.problem if isinstance(now, Finished) else ""
    if ticket is None:
        return Listing(folder.name, "failed", None, problem=problem or "it is removed")
    attempt, state = read_attempt(folder), state_of(folder)
    made = attempt.num_sections if state == "done" else size_of(folder / "latents") // attempt.record_bytes
    return Listing(folder.name, state, ticket, made, attempt.num_sections, problem)


def _ticket(folder: Path) -> Ticket | None:
    """None if the job's files cannot be read."""
    try:
        read_attempt(folder)
        return read_file(folder / "job.json", Ticket)
    except JobError:
        return None


def _folders(queue: Path) -> list[Path]:
    found = [path for path in queue.glob("*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name))


def _folder(queue: Path, name: str) -> Path:
    if not _NAME.fullmatch(name) or not (queue / name / "lock").exists():
        raise JobError(f"expected the name of a job in {queue}, got {name!r}")
    return queue / name


def _claim(folder: Path) -> Job | None:
    lock = try_lock(folder)
    if lock is not None and settled(folder) == "waiting":
        return Job(folder, lock)
    _unlock(lock)
    return None


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def check_out(queue: Path, out: Path) -> None:
    """Raise JobError unless `out` is free for a new job to make."""
    if out.suffix.lower() != ".mp4" or not out.parent.is_dir():
        raise JobError(f"expected the name of an .mp4 file in a folder that exists, got {out}")
    if out.exists():
        raise JobError(f"expected the name of a new file, got {out}, which exists")
    for job in list_jobs(queue):
        if job.ticket is not None and job.ticket.out == str(out.absolute()) and job.state in ("waiting", "running"):
            raise JobError(f"expected a file that no other job makes, got {out} of job {job.name}")


def _copy(path: Path, to: Path) -> str:
    """Copy a given file; returns its SHA-256."""
    if not path.is_file():
        raise JobError(f"expected a file, got {path}")
    limit = MAX_VIDEO_BYTES if to.name == "video" else MAX_IMAGE_BYTES
    if (size := path.stat().st_size) > limit:
        raise JobError(f"expected a file of at most {limit} bytes, got {path} with {size}")
    shutil.copyfile(path, to)
    with to.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _enter(queue: Path, folder: Path) -> str:
    """Give a complete job the next number; others may try at the same time."""
    while True:
        number = max((int(path.name) for path in _folders(queue)), default=0) + 1
        try:
            return folder.rename(queue / f"{number:04d}").name
        except OSError:
            if not (queue / f"{number:04d}").exists():
                raise
