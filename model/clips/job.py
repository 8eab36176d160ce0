"""One job of the queue: a folder with all it needs, so that it survives whatever is killed.

It is what its files say: `job.json` what is wanted, `finished.json` how it ended, `cancel` that it is not wanted any
more, `attempt.json` how it fared so far, a lock on `lock` that a process has it and one on `alive` that it is made.
"""

import errno
import fcntl
import os
from pathlib import Path
from typing import Literal, Self, TypeVar

import msgspec

from .request import ClipRequest

MAX_DEATHS = 3  # of processes at one section, before a job is given up

State = Literal["waiting", "running", "done", "failed", "cancelled"]

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_T = TypeVar("_T")


class JobError(Exception):
    """A job that is not there or not in the state that was expected; the message says which."""


class Ticket(msgspec.Struct, frozen=True):
    """What is wanted. The request's given files lie in the job's folder under their fields' names."""

    request: ClipRequest
    out: str  # absolute path of the finished file
    created: float  # seconds since 1970
    id: str  # tells the job's unfinished file from those of other queues
    sha256: dict[str, str]  # of the given files


class Finished(msgspec.Struct, frozen=True):
    state: Literal["done", "failed"]
    problem: str = ""


class Attempt(msgspec.Struct, frozen=True):
    """How a job has fared so far."""

    is_open: bool = False  # a process began and has not ended in order: it is at it, or it was killed
    num_bytes: int = 0  # of latents when it began
    deaths: int = 0  # of processes that got no further than that
    interruptions: tuple[int, ...] = ()  # sections before which it went on anew
    num_sections: int = 0
    record_bytes: int = 1


class Job:
    """A job that this process has locked: nobody else runs or removes it until `close`."""

    def __init__(self, folder: Path, lock: int) -> None:
        """`lock` is what `try_lock` gave. Raises JobError if its files cannot be read, and then leaves the lock."""
        self.folder, self.name = folder, folder.name
        self.ticket = read_file(folder / "job.json", Ticket)
        self.attempt = read_attempt(folder)
        self._locks = [lock]

    @property
    def out(self) -> Path:
        return Path(self.ticket.out)

    @property
    def partial(self) -> Path:
        """The unfinished file, beside the finished one so that finishing is one step."""
        return partial_of(self.ticket)

    @property
    def latents(self) -> Path:
        return self.folder / "latents"

    def given(self, name: str) -> Path:
        return self.folder / name

    def is_cancelled(self) -> bool:
        return (self.folder / "cancel").exists()

    def begin(self) -> None:
        """Note that this process is at it; raises JobError if it has ended too many at the same section."""
        alive = os.open(self.folder / "alive", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(alive, fcntl.LOCK_EX)  # waits for `is_alive` alone, which holds it for no time
        self._locks.append(alive)
        num_bytes = size_of(self.latents)
        before, deaths = self.attempt, 0
        if before.is_open:
            deaths = before.deaths + 1 if before.num_bytes == num_bytes else 1
        if deaths >= MAX_DEATHS:
            section = num_bytes // before.record_bytes + 1
            raise JobError(f"expected a process to survive section {section}, {deaths} died of it")
        self._note(is_open=True, num_bytes=num_bytes, deaths=deaths)

    def note_size(self, *, num_sections: int, record_bytes: int) -> None:
        """For the list of jobs."""
        self._note(num_sections=num_sections, record_bytes=record_bytes)

    def note_interruption(self, section: int) -> None:
        """From `section` on a restored state of the model makes the clip."""
        self._note(interruptions=tuple(sorted({*self.attempt.interruptions, section})))

    def pause(self) -> None:
        """End in order, to be gone on with."""
        self._note(is_open=False, deaths=0)

    def deliver(self) -> None:
        """Give the unfinished file, which is whole now, its name; raises JobError if something else has taken that."""
        if not self.is_delivered():
            _rename_to_new(self.partial, self.out)
        self._finish(Finished("done"))
        self.latents.unlink(missing_ok=True)
        for name in self.ticket.request.given.files():
            self.given(name).unlink(missing_ok=True)

    def is_delivered(self) -> bool:
        """Whether a process was killed between the last step and saying so."""
        return self.partial.exists() and self.out.exists() and self.partial.samefile(self.out)

    def fail(self, problem: str) -> None:
        """Give up; what was made stays, for another try."""
        self._finish(Finished("failed", problem[:2_000]))

    def tidy(self) -> None:
        """Delete the unfinished file."""
        self.partial.unlink(missing_ok=True)

    def close(self) -> None:
        for lock in self._locks:
            os.close(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _finish(self, finished: Finished) -> None:
        write_file(self.folder / "finished.json", finished)
        self.tidy()
        self.pause()

    def _note(self, **changes: object) -> None:
        self.attempt = msgspec.structs.replace(self.attempt, **changes)
        write_file(self.folder / "attempt.json", self.attempt)


def settled(folder: Path) -> Finished | Literal["waiting", "cancelled"]:
    """The state by the files alone; waiting may be running. A job that cannot be read has failed."""
    try:
        read_file(folder / "job.json", Ticket)
        read_attempt(folder)
        if (finished := folder / "finished.json").exists():
            return read_file(finished, Finished)
    except JobError as error:
        return Finished("failed", str(error))
    return "cancelled" if (folder / "cancel").exists() else "waiting"


def state_of(folder: Path) -> State:
    now = settled(folder)
    if isinstance(now, Finished):
        return now.state
    return "running" if now == "waiting" and is_alive(folder) else now


def is_alive(folder: Path) -> bool:
    """Whether a process is making the job now."""
    try:
        alive = os.open(folder / "alive", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(alive, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(alive)
    return False


def try_lock(folder: Path) -> int | None:
    """The locked file's descriptor; None if another process has it, or the job is removed meanwhile."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = os.stat(folder / "lock").st_ino == os.fstat(lock).st_ino
    except (BlockingIOError, FileNotFoundError):
        is_ours = False
    if not is_ours:
        os.close(lock)
    return lock if is_ours else None


def partial_of(ticket: Ticket) -> Path:
    out = Path(ticket.out)
    return out.with_name(f".{out.name}.{ticket.id}.partial")


def read_attempt(folder: Path) -> Attempt:
    path = folder / "attempt.json"
    return read_file(path, Attempt) if path.exists() else Attempt()


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def read_file(path: Path, kind: type[_T]) -> _T:
    """Raises JobError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise JobError(f"expected {kind.__name__.lower()} in {path}: {error}") from error


def write_file(path: Path, value: msgspec.Struct) -> None:
    """Replace a file as a whole, on the disk."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(msgspec.json.encode(value))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _rename_to_new(path: Path, new: Path) -> None:
    """Rename, but never over another file; both names are there for a moment."""
    try:
        os.link(path, new)
    except FileExistsError as error:
        raise JobError(f"expected {new} to be free, got a file there") from error
    except OSError as error:
        if error.errno not in _NO_LINKS or new.exists():
            raise
        path.rename(new)  # a file system without links: a file that appears right now would be lost
