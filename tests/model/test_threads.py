import math
import os
from pathlib import Path

import pytest

from model.threads import num_cores, quota, spare_threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs to bind processes to cores")
def test_cores_are_those_that_the_process_may_use(tmp_path: Path) -> None:
    limits = tmp_path / "cpu.max"
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert num_cores(limits) == 1
        os.sched_setaffinity(0, sorted(allowed)[:2])
        assert num_cores(limits) == min(2, len(allowed))
    finally:
        os.sched_setaffinity(0, allowed)
    assert num_cores(limits) == len(allowed)
    for spent in (150_000, 30_000):
        limits.write_text(f"{spent} 100000\n")
        assert num_cores(limits) == 1


def test_a_core_is_left_where_there_are_more_than_two() -> None:
    assert [spare_threads(cores) for cores in (1, 2, 3, 4, 16)] == [1, 2, 2, 3, 15]


@pytest.mark.parametrize(("text", "cores"), [("250000 100000\n", 2.5), ("max 100000\n", math.inf), ("", math.inf)])
def test_a_container_may_get_less_than_its_cores(tmp_path: Path, text: str, cores: float) -> None:
    path = tmp_path / "cpu.max"
    assert quota(path) == math.inf
    path.write_text(text)
    assert quota(path) == cores
