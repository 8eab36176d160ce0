"""Freed memory is kept from section to section, and goes back to the system every now and then."""

import subprocess
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


FRAMES = """
import resource
from server.heap import Heap
heap = Heap() if {has_heap} else None
for frame in range(20):
    if frame == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * 2**20 for _ in range(64)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_what_every_frame_takes_and_frees_is_not_handed_back_in_between() -> None:
    with_heap, without = (
        int(subprocess.check_output([sys.executable, "-c", FRAMES.format(has_heap=has_heap)]))
        for has_heap in (True, False)
    )
    taken = 10 * 64 * 2**20 / 4096  # pages, by the ten frames that are counted
    assert with_heap < taken / 20
    assert without > taken / 2
