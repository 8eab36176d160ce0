"""The saved worlds in a folder: one journal each, named by its session and a number that grows with every reset."""

import fcntl
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from .journal import Advanced, JournalError, Opened, Reader, UnknownWorldError, WorldInUseError

SUFFIX = ".world"

_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WORLD = re.compile(r"[A-Za-z0-9_-]{1,64}\.\d{4}")


@dataclass(frozen=True, slots=True)
class World:
    """What can be told of a saved world without reading it through."""

    name: str
    opened: Opened | None  # None if `problem` says why
    num_bytes: int
    modified: float  # seconds since 1970
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """What a journal holds, read from end to end."""

    num_sections: int
    num_frames: int
    num_bytes: int  # of whole records
    num_torn_bytes: int  # at the end, to be cut off when the world is continued
    problem: str = ""  # empty, or where the damage is that keeps the world from being continued


def new_world(folder: Path, session: str) -> Path:
    """Where the next world of a session goes."""
    numbers = [int(path.stem.rpartition(".")[2]) for path in _worlds_of(folder, session)]
    return folder / f"{session}.{max(numbers, default=-1) + 1:04d}{SUFFIX}"


def newest_world(folder: Path, session: str) -> Path:
    """Raises UnknownWorldError if the session has none."""
    worlds = _worlds_of(folder, session)
    if not worlds:
        raise UnknownWorldError(f"expected a session with a saved world, got {session!r}")
    return max(worlds)


def world_path(folder: Path, name: str) -> Path:
    """Raises UnknownWorldError if there is no such world; a name never leads out of the folder."""
    path = folder / f"{name}{SUFFIX}"
    if not _WORLD.fullmatch(name) or not path.is_file():
        raise UnknownWorldError(f"expected the name of a world in {folder}, got {name!r}")
    return path


def list_worlds(folder: Path) -> list[World]:
    """All worlds by name; reads their first records only."""
    return [_describe(path) for path in sorted(folder.glob(f"*{SUFFIX}")) if _WORLD.fullmatch(path.stem)]


def check_world(folder: Path, name: str) -> Check:
    """Read a world through. Raises UnknownWorldError; what is wrong with the journal is in the answer."""
    reader = Reader(world_path(folder, name))
    num_sections = num_frames = section_frames = 0
    problem = ""
    try:
        for record in reader:
            if isinstance(record, Opened):
                section_frames = record.section_frames
            if isinstance(record, Advanced):
                num_sections += 1
                num_frames += section_frames
    except JournalError as error:
        problem = str(error)
    return Check(num_sections, num_frames, reader.end, reader.torn, problem)


def export_world(folder: Path, name: str, *, to: Path) -> Check:
    """Copy a world's whole records to the new file `to`, which any folder of worlds takes under a world's name.

    Of a damaged one the part before the damage is copied, and the answer says so. Raises UnknownWorldError,
    FileExistsError.
    """
    check = check_world(folder, name)
    with world_path(folder, name).open("rb") as source, to.open("xb") as target:
        shutil.copyfileobj(source, target)
        target.truncate(check.num_bytes)
    return check


def remove_world(folder: Path, name: str) -> None:
    """Raises UnknownWorldError, and WorldInUseError while a session writes to it."""
    path = world_path(folder, name)
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorldInUseError(f"expected {name} to be free, got it in use") from error
        path.unlink()


def _worlds_of(folder: Path, session: str) -> list[Path]:
    if not _SESSION.fullmatch(session):
        raise UnknownWorldError(f"expected a session's id, got {session!r}")
    return [path for path in folder.glob(f"{session}.*{SUFFIX}") if _WORLD.fullmatch(path.stem)]


def _describe(path: Path) -> World:
    stat = path.stat()
    try:
        opened = next(iter(Reader(path)), None)
    except JournalError as error:
        return World(path.stem, None, stat.st_size, stat.st_mtime, str(error))
    if not isinstance(opened, Opened):
        return World(path.stem, None, stat.st_size, stat.st_mtime, "expected a journal that says what it opened")
    return World(path.stem, opened, stat.st_size, stat.st_mtime)
