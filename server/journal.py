"""A session's journal on disk: an append-only file of checksummed records, from which the world can be had again.

A record is its length, the CRC-32 of its payload and the CRC-32 of these eight bytes (little-endian u32 each), then the
payload, one msgpack map. What a killed process or a power cut leaves half-written is at the end and is told apart from
damage elsewhere: the first is cut off when the journal is continued, the second is never touched.
"""

import errno
import fcntl
import logging
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Self

import msgspec

MAGIC = b"rewander journal 1\n"

_HEADER = struct.Struct("<III")

logger = logging.getLogger(__name__)


class Opened(msgspec.Struct, frozen=True, tag="opened", tag_field="t"):
    """The first record: everything that decides what the controls lead to."""

    session: str
    model: str
    seed: int
    prompt: str
    image: bytes  # RGB rows, empty for a start of the model's choice
    image_shape: tuple[int, int]
    section_frames: int  # frames (and controls) of one section
    first_frame: int  # index of this world's first frame in the session's stream
    capacity: int  # of the memory bank
    created: float  # seconds since 1970


class Advanced(msgspec.Struct, frozen=True, tag="advanced", tag_field="t"):
    """One section: what was done and what was made of it."""

    controls: bytes  # float32 (frames, A)
    latents: bytes  # float16 (S, C, h, w)
    poses: bytes  # float32 (S, 3)
    recalls: bool  # whether the memory was in use


class Prompted(msgspec.Struct, frozen=True, tag="prompted", tag_field="t"):
    """A new prompt, from the next section on."""

    text: str


class Illustrated(msgspec.Struct, frozen=True, tag="illustrated", tag_field="t"):
    """The picture of a memory, for the client's eyes only."""

    index: int
    thumbnail: bytes


Record = Opened | Advanced | Prompted | Illustrated

_decode = msgspec.msgpack.Decoder(Record).decode
_encode = msgspec.msgpack.Encoder().encode


class JournalError(Exception):
    """A journal that cannot be used; the message says what was expected and what came."""


class UnknownWorldError(JournalError):
    """No world of that name."""


class WorldInUseError(JournalError):
    """Another session or process has the world open."""


class DamagedJournalError(JournalError):
    """A record that was once whole is not any more, and others follow it."""


class Reader:
    """Iterates over a journal's whole records; `end` is where the last one ends, `torn` what is left at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = len(MAGIC)
        self.torn = 0

    def __iter__(self) -> Iterator[Record]:
        """Raises JournalError if it is no journal, DamagedJournalError at damage that is not at the end."""
        with self._open() as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(len(MAGIC)) != MAGIC:
                raise JournalError(f"expected {self.path.name} to begin with {MAGIC!r}, got something else")
            while (payload := self._next_payload(file, size - self.end)) is not None:
                yield self._parse(payload)
                self.end += _HEADER.size + len(payload)
            self.torn = size - self.end

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except FileNotFoundError as error:
            raise UnknownWorldError(f"expected a world named {self.path.stem}, got none of that name") from error

    def _next_payload(self, file: BinaryIO, left: int) -> bytes | None:
        """None at the end, be it torn or not; `left` bytes are there from the record's beginning."""
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return None
        length, checksum, own = _HEADER.unpack(header)
        if own != zlib.crc32(header[:8]):
            if not _is_zero(header) or not _is_zero_to_the_end(file):
                raise self._damaged()
            return None
        if _HEADER.size + length > left:
            return None
        payload = file.read(length)
        if zlib.crc32(payload) == checksum:
            return payload
        if _HEADER.size + length < left:
            raise self._damaged()
        return None

    def _damaged(self) -> DamagedJournalError:
        return DamagedJournalError(f"expected a whole record at byte {self.end} of {self.path.name}, got a damaged one")

    def _parse(self, payload: bytes) -> Record:
        try:
            record: Record = _decode(payload)
        except msgspec.DecodeError as error:
            raise JournalError(f"expected a record at byte {self.end} of {self.path.name}: {error}") from error
        return record


class Journal:
    """A journal being written by one thread, and closed to all others by a lock on the file.

    What `append` has returned from survives the process; `sync`, which any thread may call, makes it survive the power.
    """

    def __init__(self, path: Path, *, limit: int) -> None:
        """Open an existing journal to continue it, after `cut`; `limit` bytes are the most it may grow to."""
        self.path = path
        self._limit = limit
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()
        self._failure: OSError | None = None
        self._closing = threading.Lock()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise WorldInUseError(f"expected {path.stem} to be free, got it in use") from error

    @classmethod
    def create(cls, path: Path, opened: Opened, *, limit: int) -> Self:
        """Begin the journal of a new world; the file appears with its first record or not at all."""
        partial = path.with_suffix(".partial")
        partial.write_bytes(MAGIC)
        journal = cls(partial, limit=limit)
        with ExitStack() as undo:
            undo.callback(journal.close)
            journal.append(opened)
            journal.sync()
            journal.path = partial.rename(path)
            _sync_folder(path.parent)
            undo.pop_all()
        return journal

    def cut(self, end: int) -> None:
        """Cut off what is torn after the whole records, which a Reader found to end at `end`, and go on from there."""
        if torn := self._size - end:
            session = self.path.stem.rpartition(".")[0]
            logger.warning("cut %d torn bytes off %s", torn, self.path.name, extra={"session": session})
            os.ftruncate(self._file.fileno(), end)
            self._size = end

    def append(self, record: Record) -> None:
        """Write one record, whole or not at all; raises OSError or JournalError, and then it should be closed."""
        if self._failure is not None:
            raise self._failure
        payload = _encode(record)
        start = struct.pack("<II", len(payload), zlib.crc32(payload))
        data = start + struct.pack("<I", zlib.crc32(start)) + payload
        if self._size + len(data) > self._limit:
            raise JournalError(f"expected at most {self._limit} bytes in {self.path.name}, got {len(data)} more")
        written = self._file.write(data)
        if written != len(data):
            os.ftruncate(self._file.fileno(), self._size)
            raise OSError(errno.ENOSPC, f"expected to write {len(data)} bytes, wrote {written}", str(self.path))
        self._size += written

    def sync(self) -> None:
        """Wait for the disk. If it fails, what was written may be lost: the next `append` raises the OSError."""
        with self._closing:
            if self._file.closed:
                return
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                self._failure = error

    def close(self) -> None:
        """Sync and let go of the file; harmless a second time."""
        self.sync()
        with self._closing:
            self._file.close()


class Syncer:
    """Syncs journals in a thread of its own, so that no frame waits for the disk."""

    def __init__(self) -> None:
        self._due: dict[Journal, None] = {}  # in the order of asking; one entry stands for all that was appended
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def sync_soon(self, journal: Journal) -> None:
        """If the disk fails, the journal's next `append` raises."""
        with self._changed:
            self._due[journal] = None
            self._changed.notify()

    def stop(self) -> None:
        """Sync what is due and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._stopping)
                if not self._due:
                    return
                journal = next(iter(self._due))
                del self._due[journal]
            journal.sync()


def _sync_folder(folder: Path) -> None:
    """A new name in a folder survives a power cut only if the folder is synced too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_zero(data: bytes) -> bool:
    return not data.strip(b"\0")


def _is_zero_to_the_end(file: BinaryIO) -> bool:
    """After a power cut a file system may give zeros for what it had no time to write."""
    while data := file.read(1 << 20):
        if not _is_zero(data):
            return False
    return True
