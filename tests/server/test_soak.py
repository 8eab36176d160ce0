"""What is left of many clients that come and go, and of those that stall: memory and files of a server's process."""

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.protocol import SUBPROTOCOL, Ack, Frame, Hello, Welcome, decode_from_server
from tests.server.rtc_client import RtcClient
from tests.server.running import fetch
from tests.server.ws_client import WsClient

pytestmark = pytest.mark.slow
logger = logging.getLogger("figures")  # seen with `-o log_cli=true`

ROOT = Path(__file__).parents[2]
WARM_UP, CYCLES = 20, 100
MEGABYTE = 1 << 20


class Process:
    """A server of the tests in a process of its own, whose memory and files can be counted."""

    def __init__(self, name: str) -> None:
        command = [sys.executable, "-m", "tests.client_demo.serving", name, "0"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.host = self.process.stdout.readline().strip().removeprefix("http://").rstrip("/")
        assert self.host, f"the server {name} did not start"

    @property
    def memory(self) -> int:
        """Resident bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def num_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    async def files_at_rest(self) -> int:
        """The fewest in a while: what asks for figures has a connection of its own, which closes a little later."""
        counts = []
        for _ in range(10):
            await asyncio.sleep(0.1)
            counts.append(self.num_files)
        return min(counts)

    async def is_alone(self) -> bool:
        """Whether it has no client left, by its own count."""
        lines = (await fetch(self.host, "GET", "/metrics")).body.decode().splitlines()
        return all(line.endswith(" 0.0") for line in lines if line.startswith("rewander_connections{"))

    async def wait_until_alone(self, *, within: float) -> float:
        """How long it took, in seconds."""
        began = time.monotonic()
        while not await self.is_alone():  # noqa: ASYNC110
            assert time.monotonic() - began < within, f"expected all clients to be gone within {within} s"
            await asyncio.sleep(0.5)
        return time.monotonic() - began


@pytest.fixture
def server() -> Iterator[Process]:
    server = Process("blink")
    with server.process:
        yield server
        server.process.terminate()


async def come_and_go(host: str, resume: str) -> None:
    """A player by WebRTC and a viewer by WebSocket see a frame each and leave."""
    async with RtcClient(protocol=SUBPROTOCOL) as player:
        headers = {"Content-Type": "application/sdp"}
        sdp = (await player.offer()).encode()
        answer = await fetch(host, "POST", f"/whep?resume={resume}", body=sdp, headers=headers)
        assert answer.status == 201, answer.body
        await player.accept(answer.body.decode())
        await player.frame()
        session = resume.partition(".")[0].partition("~")[0]
        async with WsClient(host, Hello(session=session, role="viewer")) as viewer:
            await viewer.next(Frame)
        assert (await fetch(host, "DELETE", answer.headers["location"])).status == 200


async def test_a_hundred_clients_of_each_kind_leave_nothing_behind(server: Process) -> None:
    async with WsClient(server.host) as first:
        await first.next(Frame)
        resume = first.welcome.resume
    for _ in range(WARM_UP):
        await come_and_go(server.host, resume)
    await server.wait_until_alone(within=10.0)
    files, memory = await server.files_at_rest(), server.memory
    for _ in range(CYCLES):
        await come_and_go(server.host, resume)
    await server.wait_until_alone(within=10.0)
    growth, more_files = (server.memory - memory) / MEGABYTE, await server.files_at_rest() - files
    logger.warning("%d cycles: %+.1f MB, %+d files", CYCLES, growth, more_files)
    assert more_files <= 0
    assert growth < 10.0


@pytest.mark.parametrize("acks", [False, True])
async def test_a_client_that_stops_reading_is_closed_and_costs_no_memory(server: Process, acks: bool) -> None:
    async with WsClient(server.host, Hello(codec="raw")) as patient:
        await patient.frames(30)
        stalled = WsClient(server.host, Hello(codec="raw"))
        stalled.socket = await stalled._connecting
        await stalled.send(Hello(session=patient.welcome.session, role="viewer", codec="raw"))
        assert isinstance(decode_from_server(await stalled.socket.recv()), Welcome)
        stalled.socket.transport.pause_reading()
        memory, files, began = server.memory, server.num_files, time.monotonic()
        most = 0
        while server.num_files >= files:
            assert time.monotonic() - began < 10.0, "expected it to be closed within 10 s"
            if acks:
                await stalled.send(Ack(frame=2**40))  # it lies: nothing was shown
            await patient.frames(3)
            most = max(most, server.memory)
        took = time.monotonic() - began
        logger.warning("acks %s: closed after %.1f s, %+.1f MB at most", acks, took, (most - memory) / MEGABYTE)
        assert most - memory < 10 * MEGABYTE
        stalled.socket.transport.abort()
