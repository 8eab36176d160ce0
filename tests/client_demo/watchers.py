"""Many viewers of one session in a process of its own: `python -m tests.client_demo.watchers ADDRESS SESSION COUNT`.

Half come by WebRTC and half by WebSocket. They take all that is sent, answer as viewers do, and decode nothing: that
is work of other machines. A line is printed when all see pictures; they leave when the input ends.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from server.protocol import Frame, Hello
from tests.server.rtc_client import RtcClient
from tests.server.running import fetch
from tests.server.ws_client import WsClient

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds
POLITE = 19  # niceness: the processor belongs to the server and its player, as if the viewers were elsewhere


@contextmanager
def watching(address: str, session: str, count: int) -> Iterator[None]:
    """`count` viewers see the session in the block."""
    command = [sys.executable, "-m", "tests.client_demo.watchers", address, session, str(count)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            assert process.stdout.readline() == b"all see it\n", "expected all viewers to see pictures"
            yield
        finally:
            process.stdin.close()


async def by_webrtc(client: RtcClient, host: str, session: str) -> None:
    """Connect, and return when the first packets have come; later ones are counted by their own task."""
    seen = asyncio.Event()

    async def take(*_: Any, **__: Any) -> None:
        seen.set()

    sdp = (await client.offer()).encode()
    path = f"/whep?role=viewer&session={session}"
    answer = await fetch(host, "POST", path, body=sdp, headers={"Content-Type": "application/sdp"})
    assert answer.status == 201, answer.body
    await client.accept(answer.body.decode())
    client._receiver._handle_rtp_packet = take  # no jitter buffer, no decoder
    async with asyncio.timeout(PATIENCE):
        await seen.wait()


async def by_websocket(client: WsClient, seen: asyncio.Event) -> None:
    while True:
        await client.next(Frame)
        seen.set()


async def watch(host: str, session: str, count: int) -> None:
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        reading = []
        for number in range(count):
            if number % 2:
                hello = Hello(session=session, role="viewer", codec="h264")
                seen = asyncio.Event()
                socket = await stack.enter_async_context(WsClient(host, hello))
                reading.append(tasks.create_task(by_websocket(socket, seen)))
                await seen.wait()
            else:
                await by_webrtc(await stack.enter_async_context(RtcClient(channels=False)), host, session)
        sys.stdout.write("all see it\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        for task in reading:
            task.cancel()


if __name__ == "__main__":
    os.nice(POLITE)
    asyncio.run(watch(urlsplit(sys.argv[1]).netloc, sys.argv[2], int(sys.argv[3])))
