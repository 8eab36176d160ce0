"""Frames a second that a player gets from `rewander play`: `python -m tests.client_demo.bench_play`.

The server is a process of its own, as in earnest, and plays at its own pace; the client is on the same machine, asks
for H.264 by WebSocket and wanders. Prints flat keys: frames a second, and the median and 95th percentile of the time
from one frame to the next in milliseconds.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

import numpy as np

from client_demo.client import Client
from tests.client_demo.serving import ROOT

WARM_UP = 20  # frames that are not counted
HELD = 10  # frames between one key and another
KEYS = (["KeyW"], ["KeyW", "ArrowRight"], ["ArrowLeft"], ["KeyW", "KeyD"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=25.0, help="of play (default: %(default)s)")
    parser.add_argument("--model", default="rooms", help="as of `rewander play` (default: %(default)s)")
    wanted = parser.parse_args()
    with _playing(wanted.model) as address:
        times = asyncio.run(_arrivals(address, wanted.seconds))
    gaps = np.diff(times[WARM_UP:])
    median, late = np.quantile(gaps, (0.5, 0.95)) * 1000
    figures = {"play.fps": 1 / gaps.mean(), "play.gap_p50_ms": median, "play.gap_p95_ms": late}
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


@contextmanager
def _playing(model: str) -> Iterator[str]:
    """The address of a server of `model`, without a scheme."""
    program = "from server.cli import app; app()"
    command = [sys.executable, "-c", program, "play", f"--model={model}", "--port=0", "--no-browser"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split("//")[1].strip("/\n")
        finally:
            process.terminate()


async def _arrivals(address: str, seconds: float) -> np.ndarray:
    """When each frame came."""
    rng, times = np.random.default_rng(0), [time.perf_counter()]
    async with Client(f"ws://{address}/ws", codec="h264", seed=7) as world, aclosing(world.frames()) as frames:
        async for _ in frames:
            times.append(time.perf_counter())
            if times[-1] - times[0] > seconds:
                break
            if len(times) % HELD == 0:
                await world.steer(keys=KEYS[rng.integers(len(KEYS))])
    return np.array(times)


if __name__ == "__main__":
    main()
