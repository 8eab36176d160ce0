"""Freed memory goes back to the system, and not after every section."""

import sys
from pathlib import Path

import pytest

from server.heap import Heap


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def test_it_is_time_after_so_many_sections() -> None:
    heap = Heap(every=5)
    assert [heap.note(made) for made in (2, 2, 1, 4, 3, 4, 1)] == [False, False, True, False, True, False, True]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_what_was_freed_between_live_blocks_is_handed_back() -> None:
    size, every = 2**16, 8
    blocks = [bytearray(size) for _ in range(128 * 2**20 // size)]  # too small to be mapped one by one
    live = blocks[::every]
    del blocks
    before = resident_mb()
    assert Heap(every=1).note(1)
    assert before - resident_mb() > 64
    assert len(live) == 256
