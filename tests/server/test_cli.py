"""The command line as a user types it: in a process of its own, or through Typer's own runner."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import jwt
import pytest
from typer.testing import CliRunner

from client_demo.client import Client
from model.training.record import load_episode
from server.auth import AuthConfig, Grant, grant
from server.cli import app
from server.protocol import SUBPROTOCOL, Goaway, Hello
from tests.server.crowd import connect
from tests.server.ports import free_port
from tests.server.rtc_client import RtcClient
from tests.server.running import fetch
from tests.server.ws_client import WsClient

logger = logging.getLogger("figures")  # seen with `-o log_cli=true`
ROOT = Path(__file__).parents[2]
TURN = ("--turn=turn:127.0.0.1:9?transport=udp", "--turn-secret=north", "--stun=stun:127.0.0.1:9")
WALKS = 3  # the seed of a walk that sets out at once: one in ten rests first


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_help_names_the_commands_and_imports_no_tensors() -> None:
    show = "import sys, server.cli as c; c.app(['--help'], standalone_mode=False); sys.exit('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert "record" in shown.stdout


def test_version() -> None:
    assert run("--version").strip() == version("rewander")


def test_record_writes_what_is_missing(tmp_path: Path) -> None:
    there = tmp_path / "00000007.safetensors"
    there.write_bytes(b"an episode")
    run("record", str(tmp_path), "--first-seed=7", "--episodes=2", "--length=3", "--size=32", "--workers=1")
    assert there.read_bytes() == b"an episode"
    assert load_episode(tmp_path / "00000008.safetensors").frames.shape == (3, 32, 32, 3)


def test_token_prints_one_that_the_server_accepts_for_what_it_says() -> None:
    secret = "s" * 32
    printed = run("token", "--jwt-secret", secret, "--role=player", "--session=abc", "--minutes=5").strip()
    assert grant(printed, AuthConfig(jwt_secret=secret)) == Grant("player", "abc")
    claims = jwt.decode(printed, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 300
    watching = CliRunner().invoke(app, ["token"], env={"REWANDER_JWT_SECRET": secret})
    assert grant(watching.output.strip(), AuthConfig(jwt_secret=secret)) == Grant("viewer", "")


@pytest.mark.parametrize("wrong", [["--role=owner"], ["--minutes=0"], ["--minutes=1441"], ["--jwt-secret=short"]])
def test_token_refuses_what_no_server_would_take(wrong: list[str]) -> None:
    result = CliRunner().invoke(app, ["token", *wrong], env={"REWANDER_JWT_SECRET": "s" * 32})
    assert result.exit_code == 2 and "expected" in result.output


@pytest.fixture
def package(tmp_path: Path) -> dict[str, str]:
    """The environment in which an installed package offers the tiny model."""
    info = tmp_path / "tiny-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rewander.models]\ntiny = tests.server.tiny_model:TinyModel\n")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}


@contextmanager
def shell(env: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`rewander` in a process of its own, killed in the end if it is still there."""
    command = [sys.executable, "-c", "from server.cli import app; app()", *arguments]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("command", "said"), [(["play"], "Play at"), (["stream", f"--seed={WALKS}"], "Watch at")])
async def test_a_server_shows_a_model_of_another_package_until_a_signal(
    package: dict[str, str], command: list[str], said: str
) -> None:
    with shell(package, *command, "--model=tiny", "--port=0", "--no-browser", "--log=json", *TURN) as process:
        assert process.stdout is not None
        words, _, address = process.stdout.readline().rstrip().rpartition(" ")
        host = urlsplit(address).netloc
        stun, turn = (link.partition(">")[0] for link in (await fetch(host, "OPTIONS", "/whep")).links)
        hello = Hello(codec="raw") if command == ["play"] else Hello(session="live", role="viewer", codec="raw")
        async with WsClient(host, hello) as client:
            first, *_, last = await client.frames(30)
            process.send_signal(signal.SIGTERM)
            await client.end()
        assert process.wait(10) in (0, -signal.SIGTERM)
        assert process.stderr is not None
        told = [json.loads(line) for line in process.stderr]
    assert (words, stun, turn) == (said, "<stun:127.0.0.1:9", "<turn:127.0.0.1:9?transport=udp")
    assert {f"a {client.welcome.role} came", client.welcome.session} <= {
        value for line in told for value in line.values()
    }
    assert (first.data != last.data) == (command != ["play"])  # a world walks by itself only if it is streamed


async def test_a_signal_ends_it_in_time_also_with_clients_that_do_not_listen(package: dict[str, str]) -> None:
    with shell(package, "play", "--model=tiny", "--port=0", "--no-browser") as process:
        assert process.stdout is not None
        host = urlsplit(process.stdout.readline().split()[-1]).netloc
        async with WsClient(host) as polite, WsClient(host) as deaf, RtcClient(protocol=SUBPROTOCOL) as peer:
            await polite.frames(5)
            await connect(peer, host, "")
            deaf.socket.transport.pause_reading()
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert (await polite.next(Goaway)).resume == polite.welcome.resume
            assert await asyncio.to_thread(process.wait, 10) in (0, -signal.SIGTERM)
            logger.warning("exit after %.2f s", time.monotonic() - began)
            deaf.socket.transport.abort()


async def test_a_killed_server_is_found_again_with_the_same_world(package: dict[str, str], tmp_path: Path) -> None:
    """By nothing but the address and the token, which the client keeps."""
    asked = ["play", "--model=tiny", "--no-browser", f"--worlds={tmp_path / 'worlds'}"]
    port = free_port()
    with shell(package, *asked, f"--port={port}") as process:
        assert process.stdout is not None
        process.stdout.readline()  # it listens
        world = await Client(f"ws://127.0.0.1:{port}/ws", seed=3).__aenter__()
        session = world.welcome["session"]
        await world.steer(keys=["ArrowRight"])
        seen = [await world.frame() for _ in range(30)]
        process.kill()
        process.wait()
    with shell(package, *asked, f"--port={port}"):
        async with asyncio.timeout(30):
            while (again := await world.frame()).receipt.applied_seq != -1:
                seen.append(again)
        assert world.welcome["session"] == session
        assert 0 < again.receipt.frame - seen[-1].receipt.frame <= 50  # what was written and not seen
        await world.__aexit__()


@pytest.mark.parametrize(
    "wrong",
    [
        ["play", "--turn=turn:host"],
        ["play", "--stun=http://host"],
        ["stream", "--host=0.0.0.0"],
        ["stream", "--session=../etc"],
        ["stream", "--whip=ftp://host"],
        ["stream", "--model=nonesuch"],
    ],
)
def test_what_cannot_be_served_is_said_before_the_model_is_loaded(wrong: list[str]) -> None:
    result = CliRunner().invoke(app, [*wrong, "--no-browser"])
    assert result.exit_code == 1 and "Cannot serve: expected" in result.output
