"""What a machine has: rated figures of common cards, and the one that is here, measured."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch

GB = 10**9


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU and the memory of its machine."""

    name: str
    memory: int  # bytes that are free
    flops: float  # a second, dense bfloat16 products added up in float32
    copy_rate: float  # bytes a second from page-locked memory to the card
    host_memory: int = 64 * GB  # bytes that are free

    def __post_init__(self) -> None:
        if min(self.memory, self.flops, self.copy_rate) <= 0 or self.host_memory < 0:
            raise ValueError(f"expected memory and rates above 0, got {self}")


# Rated by NVIDIA's architecture papers; copy rates are two thirds of what the PCIe lanes are rated for.
RATED: Mapping[int, Card] = MappingProxyType(
    {
        24: Card("24 GB, such as RTX 4090", 24 * GB, 165.2e12, 21e9),
        16: Card("16 GB, such as RTX 4080", 16 * GB, 97.5e12, 21e9),
        12: Card("12 GB, such as RTX 3060", 12 * GB, 25.5e12, 21e9),
        8: Card("8 GB, such as RTX 4060", 8 * GB, 30.2e12, 10.5e9, 32 * GB),
        6: Card("6 GB, such as RTX 3060 Laptop", 6 * GB, 21.8e12, 10.5e9, 32 * GB),
    }
)


def card_here(*, clock: Callable[[], float] = time.perf_counter) -> Card | None:
    """The first CUDA device with its free memory, measured for a moment; None without one."""
    if not torch.cuda.is_available():
        return None
    device = torch.device("cuda")
    free, _ = torch.cuda.mem_get_info(device)
    flops = matmul_ceiling(device, torch.bfloat16, clock=clock)
    rate = copy_ceiling(device, clock=clock)
    torch.cuda.empty_cache()  # what was measured with would be missing from what was measured
    return Card(torch.cuda.get_device_name(device), free, flops, rate, free_host_memory())


def matmul_ceiling(
    device: torch.device, dtype: torch.dtype, *, size: int = 8192, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Operations a second of large square matrix products: the best of three runs of four."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = best_time(lambda: [a @ b for _ in range(4)], device=device, runs=3, clock=clock)
    return 8 * size**3 / seconds


def copy_ceiling(device: torch.device, *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Bytes a second from page-locked memory."""
    source = torch.empty(GB // 4, dtype=torch.uint8, pin_memory=device.type == "cuda")
    seconds = best_time(lambda: source.to(device, non_blocking=True), device=device, runs=3, clock=clock)
    return source.numel() / seconds


def best_time(run: Callable[[], object], *, device: torch.device, runs: int, clock: Callable[[], float]) -> float:
    """Seconds of the quickest of `runs`, after one that is not counted."""
    times = []
    for _ in range(runs + 1):
        wait(device)
        started = clock()
        run()
        wait(device)
        times.append(clock() - started)
    return min(times[1:])


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free_host_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that programs may still take; 0 where it is not known."""
    if not meminfo.is_file():
        return 0
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    return int(lines.get("MemAvailable", "0 kB").split()[0]) * 1024
