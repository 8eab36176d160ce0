"""A bad network in user space: two TUN devices in two network namespaces, with delay, loss, rate and queue between.

Needs root, iproute2 and /dev/net/tun; kernels without netem do. `python -m tests.server.impaired_link` is the process
that carries the packets.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

CLONE_NEWNET = 0x4000_0000  # linux/sched.h
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x4004_54CA, 0x0001, 0x1000  # linux/if_tun.h
NAMESPACES = Path("/var/run/netns")
NEAR, FAR = "10.213.0.1", "10.213.0.2"  # addresses of the two ends
DEVICE = "impaired"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Impairment:
    """What happens to packets, each way."""

    delay: float = 0.0  # seconds
    jitter: float = 0.0  # seconds more, drawn evenly for each packet
    loss: float = 0.0  # share
    rate: float = 1e9  # bits per second
    queue: float = 0.2  # seconds that a packet may wait for the rate before it is dropped


class LinkError(OSError):
    """This machine lets nobody make namespaces or TUN devices; the message is its own."""


@dataclass(frozen=True, slots=True)
class Link:
    """Two namespaces and the process between them."""

    near: str
    far: str
    carrier: subprocess.Popen[str]

    def start_far(self, *arguments: str) -> subprocess.Popen[str]:
        """Start this Python at the far end."""
        command = ["ip", "netns", "exec", self.far, sys.executable, *arguments]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def cut(self) -> None:
        """From now on packets go nowhere, and nobody is told."""
        self.carrier.send_signal(signal.SIGSTOP)

    def mend(self) -> None:
        self.carrier.send_signal(signal.SIGCONT)


@contextmanager
def linked(impairment: Impairment) -> Iterator[Link]:
    """Make a link; sockets that the calling thread opens in the block are at its near end. Raises LinkError."""
    near, far = (f"rw{os.getpid()}{side}" for side in "nf")
    with ExitStack() as stack:
        for name in (near, far):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            _ip("-n", name, "link", "set", "lo", "up")
        carrier = stack.enter_context(_carrying(near, far, impairment))
        for name, address in ((near, NEAR), (far, FAR)):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", DEVICE)
            _ip("-n", name, "link", "set", DEVICE, "up")
        stack.enter_context(_inside(near))
        yield Link(near, far, carrier)


@contextmanager
def _carrying(near: str, far: str, impairment: Impairment) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.server.impaired_link", near, far, json.dumps(asdict(impairment))]
    carrier = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with carrier:
        assert carrier.stdout is not None and carrier.stderr is not None
        try:
            if carrier.stdout.readline().strip() != "ready":
                raise LinkError(carrier.stderr.read().strip().rpartition("\n")[2])
            yield carrier
        finally:
            carrier.kill()


@contextmanager
def _inside(namespace: str) -> Iterator[None]:
    """Open this thread's sockets in a namespace."""
    with open("/proc/self/ns/net") as home:
        _enter(NAMESPACES / namespace)
        try:
            yield
        finally:
            _check(_libc().setns(home.fileno(), CLONE_NEWNET))


def _enter(namespace: Path) -> None:
    with open(namespace) as file:
        _check(_libc().setns(file.fileno(), CLONE_NEWNET))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        raise LinkError(os.strerror(ctypes.get_errno()))


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise LinkError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _open_tun(namespace: str) -> int:
    _enter(NAMESPACES / namespace)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    return tun


class Direction:
    """One way of the link: packets wait in a queue for the rate, then travel for the delay."""

    def __init__(self, impairment: Impairment, rng: random.Random) -> None:
        self._impairment, self._rng = impairment, rng
        self._free_at = 0.0
        self._numbers = count()
        self._travelling: list[tuple[float, int, bytes]] = []

    def put(self, packet: bytes, *, now: float) -> None:
        what = self._impairment
        free_at = max(now, self._free_at) + 8 * len(packet) / what.rate
        if free_at - now > what.queue:
            return
        self._free_at = free_at
        if self._rng.random() >= what.loss:
            due = free_at + what.delay + self._rng.uniform(0, what.jitter)
            heapq.heappush(self._travelling, (due, next(self._numbers), packet))

    def arrived(self, *, now: float) -> Iterator[bytes]:
        while self._travelling and self._travelling[0][0] <= now:
            yield heapq.heappop(self._travelling)[2]

    @property
    def next_at(self) -> float:
        return self._travelling[0][0] if self._travelling else float("inf")


def _carry(near: int, far: int, impairment: Impairment) -> None:
    """Carry packets until killed."""
    rng = random.Random(1)
    ways = {near: (Direction(impairment, rng), far), far: (Direction(impairment, rng), near)}
    while True:
        wait = min(way.next_at for way, _ in ways.values()) - time.monotonic()
        readable, _, _ = select.select(ways, (), (), min(max(0.0, wait), 1.0))
        for tun in readable:
            ways[tun][0].put(os.read(tun, 65_536), now=time.monotonic())
        for way, to in ways.values():
            for packet in way.arrived(now=time.monotonic()):
                os.write(to, packet)


if __name__ == "__main__":
    ends = [_open_tun(namespace) for namespace in sys.argv[1:3]]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    _carry(*ends, Impairment(**json.loads(sys.argv[3])))
