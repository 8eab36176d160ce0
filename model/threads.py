"""How many threads torch computes with on a CPU, for those who do not import it."""

import math
import os
from pathlib import Path

import torch

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds a period, or "max", and the period


def num_threads() -> int:
    return torch.get_num_threads()


def use_threads(count: int | None = None) -> None:
    """Of this process, from now on: `count`, or what `spare_threads` says."""
    torch.set_num_threads(count or spare_threads())


def num_cores(quota_file: Path = _QUOTA) -> int:
    """Cores that this process may use: `taskset` and containers (cgroup v2) allow fewer than the machine has."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(allowed, quota(quota_file))))


def quota(path: Path) -> float:
    """Seconds of all cores that this process gets a second; infinite where nothing limits it."""
    try:
        spent, period = path.read_text().split()
        return int(spent) / int(period)
    except (OSError, ValueError):
        return math.inf


def spare_threads(cores: int | None = None) -> int:
    """One less than the `cores` there are, which encoding and sockets need; but two, if there are two."""
    cores = cores or num_cores()
    return max(cores - 1, min(cores, 2))
