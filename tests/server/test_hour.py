"""An hour of 16 sessions, 64 viewers, 1,000 connects and disconnects: `pytest -m soak`; `--soak-minutes=3` is less."""

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import pytest

from server.protocol import Frame
from tests.server.crowd import crowd, visit
from tests.server.running import fetch
from tests.server.test_soak import MEGABYTE, Process
from tests.server.ws_client import WsClient

pytestmark = pytest.mark.soak
logger = logging.getLogger("figures")  # seen with `-o log_cli=true`

VISITS_PER_MINUTE = 1000 / 60
WARM_UP = 40  # visits that are not counted: caches fill
SETTLED = 0.2  # of the time, after which memory is to stay where it is
TELL_EVERY = 50  # visits


@dataclass(frozen=True, slots=True)
class State:
    """What a server's process holds."""

    memory: int  # bytes
    files: int
    tasks: int


async def state(server: Process) -> State:
    text = (await fetch(server.host, "GET", "/metrics")).body.decode()
    tasks = next(line for line in text.splitlines() if line.startswith("rewander_tasks "))
    return State(server.memory, await server.files_at_rest(), int(float(tasks.split()[1])))


@pytest.fixture
def server() -> Iterator[Process]:
    server = Process("crowded")
    with server.process:
        yield server
        server.process.terminate()


async def num_connections(server: Process) -> int:
    text = (await fetch(server.host, "GET", "/metrics")).body.decode()
    return sum(int(float(line.split()[-1])) for line in text.splitlines() if line.startswith("rewander_connections{"))


async def come_and_go(server: Process, session: str, resume: str, *, visits: int, seconds: float) -> list[int]:
    """So many visits over so many seconds; the process's memory after each."""
    random, memories, began = Random(4), [], time.monotonic()
    for number in range(visits):
        await visit(server.host, session, resume, random)
        memories.append(server.memory)
        if not len(memories) % TELL_EVERY:
            here, memory = await num_connections(server), memories[-1] / MEGABYTE
            logger.warning(
                "%d visits: %.1f MB, %d files, %d connections", len(memories), memory, server.num_files, here
            )
        await asyncio.sleep(max(0.0, began + (number + 1) * seconds / visits - time.monotonic()))
    return memories


async def alone(server: Process) -> State:
    """Once all have left, and their sessions have ended too."""
    await server.wait_until_alone(within=1_200.0)
    await asyncio.sleep(12.0)  # the server's grace for players, the last farewells, and its tidying up
    return await state(server)


async def test_nothing_is_left_of_a_crowd_and_its_visitors(server: Process, soak_minutes: float) -> None:
    visits = max(100, round(VISITS_PER_MINUTE * soak_minutes))
    async with WsClient(server.host) as owner:
        await owner.next(Frame)
        resume = owner.welcome.resume
    async with crowd(server.host) as everyone:
        await come_and_go(server, everyone.sessions[0], resume, visits=WARM_UP, seconds=20.0)
    before = await alone(server)
    async with WsClient(server.host) as owner:
        await owner.next(Frame)
        resume = owner.welcome.resume
    async with crowd(server.host) as everyone:
        memories = await come_and_go(server, everyone.sessions[0], resume, visits=visits, seconds=60 * soak_minutes)
    after = await alone(server)
    settled = memories[int(SETTLED * len(memories)) :]
    drift, growth = (settled[-1] - settled[0]) / MEGABYTE, (after.memory - before.memory) / MEGABYTE
    files, tasks = after.files - before.files, after.tasks - before.tasks
    logger.warning(
        "%d visits in %g minutes: %+.1f MB since it settled, %+.1f MB, %+d files and %+d tasks when all had left",
        *(visits, soak_minutes, drift, growth, files, tasks),
    )
    assert max(drift, growth) < 10.0
    assert files <= 0 and tasks <= 0
