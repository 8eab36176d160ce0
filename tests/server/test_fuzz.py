"""Random messages in any order: the server answers, refuses or hangs up, and neither dies nor grows."""

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from random import Random

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from PIL import ExifTags, Image
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from server.engine import EngineConfig
from server.limits import LimitConfig
from server.lobby import LobbyConfig
from server.protocol import (
    SUBPROTOCOL,
    Claim,
    Hello,
    Message,
    Ping,
    Pong,
    ProtocolError,
    Welcome,
    Yield,
    decode_from_client,
    encode,
)
from server.serve import ServeConfig
from tests.server.background import Background, in_background
from tests.server.garbled import HARMLESS, MESSAGES, garble, message
from tests.server.messages import from_client
from tests.server.running import fetch, running, until
from tests.server.ws_client import WsClient

MANY = 10**9
SOME = 2_000  # messages
LIMITS = LimitConfig(entries_per_minute=MANY, per_address=64)
ENGINE = EngineConfig(player_grace=0.5, max_sessions=64, least_rate=0.01)
CONFIG = ServeConfig(limits=LIMITS, engine=ENGINE)
NO_LIMIT = ServeConfig(limits=LIMITS, engine=ENGINE, lobby=LobbyConfig(messages_per_second=MANY))
CLOSES = {1000, 1001, 1008, 1009, 1013}  # what the server may close with; 1011 would tell of a failure
MB = 2**20


@pytest.fixture(params=[pytest.param(False, id="some"), pytest.param(True, id="many", marks=pytest.mark.fuzz)])
def num_messages(request: pytest.FixtureRequest, fuzz_messages: int) -> int:
    """Some always, and many with `-m fuzz --fuzz-messages=1000000`."""
    return fuzz_messages if request.param else SOME


class Sessions(RuleBasedStateMachine):
    """Clients come as players and viewers, say anything, and leave politely or not."""

    background: Background
    clients = Bundle("clients")

    @initialize(target=clients)
    def first(self) -> WsClient:
        self.come: list[WsClient] = []
        return self._come(Hello(codec="raw"))

    @rule(target=clients, codec=st.sampled_from(["raw", "jpeg", "h264"]))
    def play(self, codec: str) -> WsClient:
        return self._come(Hello(codec=codec))  # type: ignore[arg-type]

    @rule(target=clients, client=clients, asks=st.booleans())
    def watch(self, client: WsClient, asks: bool) -> WsClient:
        viewer = self._come(Hello(session=client.welcome.session, role="viewer", codec="raw"))
        if asks:
            self._send(viewer, encode(Claim()))
        return viewer

    @rule(target=clients, client=clients)
    def come_back(self, client: WsClient) -> WsClient:
        return self._come(Hello(resume=client.welcome.resume, codec="raw"))

    @rule(session=clients)
    def hand_over(self, session: WsClient) -> None:
        """Whoever plays the session yields; from a viewer it means that it asks no longer."""
        for client in self.come:
            if client.welcome.session == session.welcome.session:
                self._send(client, encode(Yield()))

    @rule(client=clients, said=st.sampled_from(HARMLESS))
    def say(self, client: WsClient, said: Message) -> None:
        self._send(client, encode(said))

    @rule(client=consumes(clients), said=from_client.map(encode) | st.binary(max_size=300) | st.text(max_size=20))
    def babble(self, client: WsClient, said: bytes | str) -> None:
        """Mostly the last that the server hears from this client."""
        self._send(client, said)

    @rule(client=consumes(clients))
    def leave(self, client: WsClient) -> None:
        self.background.do(client.socket.close())

    @rule(client=consumes(clients))
    def vanish(self, client: WsClient) -> None:
        self.background.loop.call_soon_threadsafe(client.socket.transport.abort)

    @invariant()
    def one_player_at_most(self) -> None:
        for hall in set(self.background.server.house.lobby._places.values()):
            assert [seat for seat in hall._seats if seat.role == "player"] in ([], [hall.player])

    def teardown(self) -> None:
        self.background.do(self._end())

    def _come(self, hello: Hello) -> WsClient:
        """A client, also if it is refused: what the machine does next must not hang on the server's clock."""
        client = WsClient(
            self.background.server.host, hello, max_queue=None
        )  # it is closed in time though it reads not
        self.come.append(client)
        self.background.do(self._enter(client))
        return client

    async def _enter(self, client: WsClient) -> None:
        client.socket = await client._connecting
        with suppress(ConnectionClosed):
            await client.send(client._hello)
            client.welcome = await client.next(Welcome)

    def _send(self, client: WsClient, data: bytes | str) -> None:
        async def send() -> None:
            with suppress(ConnectionClosed):
                await client.socket.send(data)

        self.background.do(send())

    async def _end(self) -> None:
        for client in self.come:
            await client.socket.close()
            received = client.socket.close_code
            assert received in CLOSES | {1005, 1006}  # 1006 is our own vanishing
        server = self.background.server
        await until(lambda: not server.house.lobby._places)
        await until(lambda: len(asyncio.all_tasks()) <= self.num_tasks)
        assert (await fetch(server.host, "GET", "/healthz")).status == 200

    num_tasks = 0


@pytest.fixture
def background() -> Iterator[Background]:
    with in_background(CONFIG) as background:
        yield background


def test_sessions_survive_whatever_is_said_and_leave_no_task(background: Background, num_messages: int) -> None:
    async def count() -> int:
        return len(asyncio.all_tasks())

    background.do(fetch(background.server.host, "GET", "/healthz"))
    Sessions.background, Sessions.num_tasks = background, background.do(count()) + 1
    examples = max(10, num_messages // 1_000)
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_machine(
        Sessions, settings=settings(max_examples=examples, stateful_step_count=40, suppress_health_check=checks)
    )


def test_the_decoder_refuses_by_name_and_does_not_grow(num_messages: int) -> None:
    random = Random(1)
    before, refused = 0, 0
    for i in range(num_messages):
        if i == num_messages // 5:
            before = psutil.Process().memory_info().rss
        try:
            decode_from_client(message(random, harmless=0.1))
        except ProtocolError as error:
            assert error.code in ("message.malformed", "message.size")
            refused += 1
    assert num_messages / 3 < refused < num_messages
    assert psutil.Process().memory_info().rss - before < 10 * MB


async def test_a_server_under_a_flood_of_messages_answers_and_does_not_grow(num_messages: int) -> None:
    random = Random(2)
    async with running(NO_LIMIT) as server:
        began, said, warm = time.monotonic(), 0, 0
        while said < num_messages:
            if not warm and said > num_messages // 2:
                warm = _memory()
            async with WsClient(server.host) as client:
                said += await _flood(client, random)
                assert (await client.end())[1] == 1008
        assert _memory() - warm < 10 * MB
        await until(lambda: not server.house.lobby._places)
        assert (await fetch(server.host, "GET", "/healthz")).status == 200
    sys.stdout.write(f"{said / (time.monotonic() - began):.0f} messages a second\n")


def _memory() -> int:
    """Bytes in use when garbage is collected: sessions that are over end in cycles."""
    gc.collect()
    return psutil.Process().memory_info().rss


async def _flood(client: WsClient, random: Random) -> int:
    """Say much that ends nothing and wait until it was heard, then something garbled; how much that was."""
    num_rounds, batch = random.randrange(1, 40), 50
    for number in range(num_rounds):
        for _ in range(batch):
            await client.socket.send(message(random, harmless=1.0))
        await client.send(Ping(ts=number))
        while (await client.next(Pong)).ts != number:
            continue
    await client.socket.send(message(random, harmless=0.0))
    await client.socket.send(b"\xc1")  # nothing that msgpack knows
    return num_rounds * (batch + 1) + 2


async def test_garbage_before_hello_is_refused() -> None:
    random = Random(3)
    async with running(CONFIG) as server:
        for _ in range(50):
            socket = await connect(f"ws://{server.host}/ws", subprotocols=[SUBPROTOCOL], compression=None)
            await socket.send(garble(encode(random.choice(MESSAGES)), random))
            client = WsClient(server.host)
            client.socket = socket
            async with asyncio.timeout(5):
                with suppress(ConnectionClosed, TimeoutError):
                    async with asyncio.timeout(0.05):  # a garbled hello may still be one
                        await socket.recv()
            await socket.close()
            assert socket.close_code in CLOSES | {1005}
        await until(lambda: not server.house.lobby._places)


def test_the_http_routes_keep_to_their_description(background: Background, num_messages: int) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis: pip install schemathesis")
    from schemathesis import checks

    schemathesis.serializer.alias("application/sdp", "text/plain")
    schema = schemathesis.openapi.from_url(f"{background.server.url}/openapi.json")
    kept = [checks.not_a_server_error]
    names = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")
    kept += [checks.CHECKS.get_one(name) for name in names]
    operations = [result.ok() for result in schema.get_all_operations()]
    assert {operation.path for operation in operations} >= {"/healthz", "/metrics", "/whep", "/whep/{name}"}
    for operation in operations:

        @settings(max_examples=max(20, num_messages // 2_000), suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def check(case):  # type: ignore[no-untyped-def]
            case.call_and_validate(checks=kept)

        check()


@pytest.mark.skipif(find_spec("atheris") is None, reason="needs atheris: pip install atheris")
@pytest.mark.parametrize("decoder", ["message", "offer", "image", "tokens"])
def test_no_bytes_break_a_decoder(decoder: str, tmp_path: Path, num_messages: int) -> None:
    """Coverage-guided; the process ends with an error on any exception but a refusal, on a hang and on growth."""
    for i, seed in enumerate(_seeds(decoder)):
        (tmp_path / str(i)).write_bytes(seed)
    bounds = [f"-runs={num_messages}", "-timeout=5", "-rss_limit_mb=1024", "-max_len=65536", "-seed=1"]
    command = [sys.executable, "-m", "tests.server.fuzz_decoders", decoder, *bounds, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-4_000:]
    assert f"Done {num_messages} runs" in done.stderr


def _seeds(decoder: str) -> list[bytes]:
    match decoder:
        case "message":
            return [encode(one) for one in MESSAGES]
        case "offer":
            return [b"v=0\r\nm=video 9 RTP 96\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=fingerprint:f\r\na=candidate:1\r\n"]
        case "tokens":
            return [b"a.b", b"a.b.c", b"s~1.x", b"eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJyZXdhbmRlciJ9.x"]
    images = []
    for kind in ("PNG", "JPEG", "WEBP"):
        buffer = BytesIO()
        note = Image.Exif()
        note[ExifTags.Base.Orientation] = 6
        Image.new("RGB", (9, 7), (1, 200, 3)).save(buffer, kind, exif=note)
        images.append(buffer.getvalue())
    return images
