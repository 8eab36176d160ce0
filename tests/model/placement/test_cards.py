"""Machines: figures that make sense, measured by a clock that is given."""

from pathlib import Path

import pytest
import torch

from model.placement.cards import Card, best_time, copy_ceiling, free_host_memory, matmul_ceiling

CPU = torch.device("cpu")


class Clock:
    """A second goes by for each of the numbers given, then 10."""

    def __init__(self, *seconds: float) -> None:
        self.now, self.seconds = 0.0, list(seconds)

    def __call__(self) -> float:
        self.now += self.seconds.pop(0) if self.seconds else 10.0
        return self.now


def test_the_quickest_run_counts_but_not_the_first() -> None:
    runs: list[int] = []
    # before and after each run
    clock = Clock(0, 1, 0, 7, 0, 5, 0, 6)
    assert best_time(lambda: runs.append(1), device=CPU, runs=3, clock=clock) == 5
    assert len(runs) == 4


def test_the_ceiling_is_operations_a_second() -> None:
    clock = Clock(*[0, 2] * 4)
    assert matmul_ceiling(CPU, torch.float32, size=16, clock=clock) == pytest.approx(4 * 2 * 16**3 / 2)
    assert matmul_ceiling(CPU, torch.float32, size=128) > 1e7


def test_bytes_a_second_are_copied() -> None:
    assert copy_ceiling(CPU, clock=Clock(*[0, 0.5] * 4)) == pytest.approx(0.5e9)


def test_free_memory_is_what_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:   64 kB\n")
    assert free_host_memory(tmp_path / "meminfo") == 64 * 1024
    assert free_host_memory(tmp_path / "none") == 0
    assert free_host_memory() > 0


@pytest.mark.parametrize("wrong", [{"memory": 0}, {"flops": -1.0}, {"copy_rate": 0.0}, {"host_memory": -1}])
def test_a_card_without_anything_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match="expected memory and rates"):
        Card(**{"name": "a card", "memory": 1, "flops": 1.0, "copy_rate": 1.0, "host_memory": 1} | wrong)
