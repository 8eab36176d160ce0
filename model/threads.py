"""How many threads torch computes with on a CPU, for those who do not import it."""

import os

import torch


def num_threads() -> int:
    return torch.get_num_threads()


def use_threads(count: int | None = None) -> None:
    """Of this process, from now on: `count`, or what `spare_threads` says."""
    torch.set_num_threads(count or spare_threads())


def num_cores() -> int:
    """Cores that this process may run on, which containers and `taskset` make fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spare_threads() -> int:
    """One core less than there are, which encoding and sockets need; but two, if there are two."""
    return max(num_cores() - 1, min(num_cores(), 2))
