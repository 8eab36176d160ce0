"""A real TURN server (coturn) lets in whoever has our credentials, and the page plays through it alone."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from aioice.stun import TransactionFailed
from aioice.turn import create_turn_endpoint
from playwright.sync_api import Page

from server.ice import IceConfig, turn_credential
from server.rtc import RtcConfig
from server.serve import ServeConfig
from tests.client_demo.visit import enter, shown
from tests.server.background import in_background
from tests.server.ports import free_port

pytestmark = pytest.mark.skipif(shutil.which("turnserver") is None, reason="needs coturn: apt-get install coturn")

SECRET = "north"
OPTIONS = (
    "-n --listening-ip=127.0.0.1 --relay-ip=127.0.0.1 --allow-loopback-peers --realm=test --use-auth-secret "
    "--no-cli --no-tls --no-dtls --log-file=stdout --simple-log"
).split()
ONLY_RELAYED = """const set = RTCPeerConnection.prototype.setConfiguration;
RTCPeerConnection.prototype.setConfiguration = function (configuration) {
  window.peer = this;
  return set.call(this, { ...configuration, iceTransportPolicy: "relay" });
};"""
KINDS = """async () => [...(await peer.getStats()).values()]
  .filter(({ type }) => type === "local-candidate").map(({ candidateType }) => candidateType)"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Where a TURN server listens that shares the secret with us."""
    port = free_port()
    own = [f"--listening-port={port}", f"--static-auth-secret={SECRET}", f"--pidfile={tmp_path / 'pid'}"]
    with subprocess.Popen(["turnserver", *OPTIONS, *own], stdout=subprocess.DEVNULL, cwd=tmp_path) as process:
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("expected coturn to listen")


async def is_let_in(port: int, username: str, password: str) -> bool:
    try:
        transport, _ = await create_turn_endpoint(
            asyncio.DatagramProtocol, ("127.0.0.1", port), username=username, password=password
        )
    except TransactionFailed as failed:
        assert failed.response.attributes["ERROR-CODE"][0] == 401
        return False
    transport.close()
    await asyncio.sleep(0.1)
    return True


async def test_coturn_takes_our_credentials_and_no_others(port: int) -> None:
    now = time.time()
    ours, theirs = (turn_credential(secret, now=now, seconds=60) for secret in (SECRET, "south"))
    past = turn_credential(SECRET, now=now - 120, seconds=60)
    assert await is_let_in(port, ours.username, ours.password)
    for refused in (theirs, past):
        assert not await is_let_in(port, refused.username, refused.password)


@pytest.mark.browser
def test_the_page_plays_through_the_relay_alone(port: int, page: Page) -> None:
    ice = IceConfig(turn=(f"turn:127.0.0.1:{port}?transport=udp",), turn_secret=SECRET)
    page.add_init_script(ONLY_RELAYED)
    with in_background(ServeConfig(rtc=RtcConfig(ice=ice, addresses=("127.0.0.1",)))) as background:
        enter(page, f"{background.server.url}/", "?transport=rtc")
        assert shown(page, "transport") == "WebRTC"
        assert set(page.evaluate(KINDS)) == {"relay"}
        page.keyboard.down("ArrowRight")
        page.wait_for_function("rewander.lastReceipt.applied_seq >= 1")
        page.goto("about:blank")
