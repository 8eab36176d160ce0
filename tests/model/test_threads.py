import os

import pytest

from model.threads import num_cores, spare_threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs to bind processes to cores")
def test_cores_are_those_that_the_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert num_cores() == spare_threads() == 1
        os.sched_setaffinity(0, sorted(allowed)[:2])
        assert num_cores() == spare_threads() == min(2, len(allowed))
    finally:
        os.sched_setaffinity(0, allowed)
    assert num_cores() == len(allowed)
