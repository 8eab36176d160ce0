"""A clip's sections on disk, in the order they were made: any can be read again, and a killed process loses none.

A record is the CRC-32 of its number and content (u32), then latents (float16) and poses (float32). All have one size,
so a section's place follows from its number, and what a power cut leaves half-written is told by its checksum.
"""

import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np

from ..world_model import Section

_CHECKSUM = struct.Struct("<I")

logger = logging.getLogger(__name__)


class DamagedLatentsError(ValueError):
    """A record that does not hold what was written."""


class LatentFile:
    """Sections of latents (S, C, h, w) and poses (S, 3), appended by one thread and read at random."""

    def __init__(self, path: Path, *, shape: tuple[int, int, int, int]) -> None:
        """Open or create the file; `shape` is S, C, h, w. Records that are not whole are cut off its end."""
        self._shape = shape
        self._latent_bytes = int(np.prod(shape)) * 2
        self.record_bytes = _CHECKSUM.size + self._latent_bytes + shape[0] * 3 * 4
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._num = os.fstat(self._file).st_size // self.record_bytes
        whole = self._num
        while self._num and not self._is_whole(self._num - 1):
            self._num -= 1
        if self._num < whole:
            logger.warning("cut %d damaged sections from the end of %s", whole - self._num, path)
        self.cut(self._num)

    def __len__(self) -> int:
        return self._num

    def __iter__(self) -> Iterator[Section]:
        return (self.read(number) for number in range(self._num))

    def append(self, section: Section) -> None:
        """What it has returned from survives the process; raises OSError and is then as it was before."""
        content = section.latents.astype(np.float16).tobytes() + section.poses.astype(np.float32).tobytes()
        assert len(content) == self.record_bytes - _CHECKSUM.size, f"expected a section of {self._shape}"
        record = _CHECKSUM.pack(_checksum(self._num, content)) + content
        start, done = self._num * self.record_bytes, 0
        while done < len(record):
            done += os.pwrite(self._file, record[done:], start + done)
        self._num += 1

    def read(self, number: int) -> Section:
        """Raises DamagedLatentsError."""
        assert 0 <= number < self._num, f"expected a section below {self._num}, got {number}"
        if not self._is_whole(number):
            raise DamagedLatentsError(f"expected section {number} of {self._path} whole, got a damaged one")
        content = self._content(number)[_CHECKSUM.size :]
        latents = np.frombuffer(content[: self._latent_bytes], np.float16).reshape(self._shape)
        poses = np.frombuffer(content[self._latent_bytes :], np.float32).reshape(-1, 3)
        return Section(latents, poses)

    def cut(self, num: int) -> None:
        """Forget all but the first `num` sections."""
        os.ftruncate(self._file, num * self.record_bytes)
        self._num = num

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _content(self, number: int) -> bytes:
        return os.pread(self._file, self.record_bytes, number * self.record_bytes)

    def _is_whole(self, number: int) -> bool:
        record = self._content(number)
        (checksum,) = _CHECKSUM.unpack_from(record)
        return bool(checksum == _checksum(number, record[_CHECKSUM.size :]))


def _checksum(number: int, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(number.to_bytes(8, "little")))
