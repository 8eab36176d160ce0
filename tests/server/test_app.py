"""The HTTP side of a whole server: health, metrics, the page, and what WHEP refuses."""

import json
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from server.auth import AuthConfig, Grant, sign
from server.engine import EngineConfig
from server.limits import LimitConfig
from server.offer import MAX_OFFER_BYTES
from server.protocol import SUBPROTOCOL, Frame, Hello
from server.rtc import RtcConfig
from server.serve import ServeConfig
from tests.server.rtc_client import RtcClient
from tests.server.running import Answer, fetch, running
from tests.server.ws_client import WsClient, refused

SECRET = "s" * 32
CLOSED = ServeConfig(auth=AuthConfig(token="sesame", jwt_secret=SECRET, origins=("https://games.example",)))
OPEN = ServeConfig(rtc=RtcConfig(addresses=("127.0.0.1",)))
SDP = {"Content-Type": "application/sdp"}
QUERY = ("session", "role", "seed", "prompt", "resume", "waiting")


async def post(host: str, body: bytes, query: str = "", **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await fetch(host, "POST", f"/whep?{query}", body=body, headers={**SDP, **names})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_health_readiness_and_the_description_of_the_api() -> None:
    async with running() as server:
        assert (await fetch(server.host, "GET", "/healthz")).status == 200
        assert (await fetch(server.host, "GET", "/readyz")).status == 200
        described = json.loads((await fetch(server.host, "GET", "/openapi.json")).body)
        assert set(described["paths"]) == {"/healthz", "/readyz", "/metrics", "/whep", "/whep/{name}"}
        operation = described["paths"]["/whep"]["post"]
        assert "application/sdp" in operation["requestBody"]["content"]
        assert {p["name"] for p in operation["parameters"]} == set(QUERY)
        server.house.lobby.close()
        assert (await fetch(server.host, "GET", "/readyz")).status == 503
        assert (await refused(server.host, Hello()))[0].code == "server.leaving"


async def test_the_page_is_served_with_its_parts() -> None:
    async with running() as server:
        page = await fetch(server.host, "GET", "/")
        assert page.status == 200 and page.headers["content-type"].startswith("text/html")
        assert b"<html" in page.body.lower()
        script = await fetch(server.host, "GET", "/app.js")
        assert script.status == 200 and "javascript" in script.headers["content-type"]
        for path in ("/nothing.js", "/../pyproject.toml", "/..%2f..%2fpyproject.toml"):
            assert (await fetch(server.host, "GET", path)).status == 404


async def test_metrics_count_what_happens() -> None:
    async with running() as server, WsClient(server.host) as client:
        await client.frames(10)
        text = (await fetch(server.host, "GET", "/metrics")).body.decode()
        values = {s.name: s.value for f in text_string_to_metric_families(text) for s in f.samples}
        assert values["rewander_sessions"] == 1
        assert values["rewander_frames_total"] >= 10
        assert values["rewander_stage_seconds_count"] >= 5  # a busy server shows a frame again, and counts it once
        assert values["rewander_encode_seconds_count"] >= 5


async def test_an_offer_is_answered_with_a_place() -> None:
    async with running(OPEN) as server, RtcClient() as client:
        answer = await post(server.host, (await client.offer()).encode(), "seed=3&unknown=x")
        assert (answer.status, answer.headers["content-type"]) == (201, "application/sdp")
        assert answer.headers["location"].startswith("/whep/") and "etag" not in answer.headers
        assert answer.body.startswith(b"v=0")
        (handle,) = server.house.engine.handles
        assert handle.has_player


@pytest.mark.parametrize(
    ("body", "query", "headers", "status", "code"),
    [
        (b"", "", {}, 400, "offer.malformed"),
        (b"v=0\r\n" * 9, "", {}, 400, "offer.malformed"),
        (b"x" * (MAX_OFFER_BYTES + 1), "", {}, 413, "offer.size"),
        (b"v=0", "", {"Content_Type": "application/json"}, 415, "offer.type"),
        (b"v=0", "seed=-1", {}, 400, "message.malformed"),
        (b"v=0", "seed=x", {}, 400, "message.malformed"),
        (b"v=0", "role=owner", {}, 400, "message.malformed"),
        (b"v=0", "session=" + "s" * 65, {}, 400, "message.malformed"),
        (b"v=0", "", {"Origin": "http://evil.example"}, 403, "auth.origin"),
        (b"v=0", "", {"Host": "evil.example"}, 403, "auth.host"),
    ],
)
async def test_what_is_no_offer_is_refused_and_opens_nothing(
    body: bytes, query: str, headers: dict[str, str], status: int, code: str
) -> None:
    async with running() as server:
        answer = await post(server.host, body, query, **headers)
        assert (answer.status, json.loads(answer.body)["code"]) == (status, code)
        assert server.house.engine.handles == []


async def test_offers_for_other_sessions_and_codecs_are_refused() -> None:
    async with running(OPEN) as server, RtcClient() as client:
        sdp = (await client.offer()).encode()
        assert (await post(server.host, sdp, "session=nowhere&role=viewer")).status == 404
        assert (await post(server.host, sdp, "resume=a.b")).status == 403
        without = b"".join(line for line in sdp.splitlines(True) if b"H264" not in line)
        answer = await post(server.host, without)
        assert (answer.status, json.loads(answer.body)["code"]) == (400, "offer.unfit")
        sending = await post(server.host, sdp.replace(b"a=recvonly", b"a=sendonly"))
        assert (sending.status, json.loads(sending.body)["code"]) == (400, "offer.unfit")
        assert server.house.lobby._places == {} and server.house.peers._peers == {}


async def test_too_many_offers_are_told_when_to_come_back() -> None:
    config = replace(OPEN, limits=LimitConfig(entries_per_minute=2))
    async with running(config) as server:
        statuses = [(await post(server.host, b"")).status for _ in range(3)]
        assert statuses == [400, 400, 429]
        assert int((await post(server.host, b"")).headers["retry-after"]) > 1


async def test_a_full_server_tells_offers_their_place_too() -> None:
    config = replace(OPEN, engine=EngineConfig(max_sessions=1))
    async with running(config) as server, RtcClient() as client, WsClient(server.host):
        sdp = (await client.offer()).encode()
        answer = await post(server.host, sdp)
        said = json.loads(answer.body)
        assert (answer.status, said["code"], said["place"]) == (503, "server.busy", 1)
        assert int(answer.headers["retry-after"]) == said["retry_after"]
        again = json.loads((await post(server.host, sdp, f"waiting={said['waiting']}")).body)
        assert (again["place"], again["waiting"]) == (1, said["waiting"])
        error, code = await refused(server.host, Hello())
        assert (error.place, code) == (2, 1013) and error.waiting != said["waiting"]
        assert b"rewander_waiting 2.0" in server.house.render_metrics()


async def test_with_a_secret_every_door_wants_a_token() -> None:
    async with running(CLOSED) as server, RtcClient() as client:
        sdp = (await client.offer()).encode()
        for headers in ({}, bearer("wrong"), {"Authorization": "Basic sesame"}):
            answer = await fetch(server.host, "POST", "/whep", body=sdp, headers={**SDP, **headers})
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert (await fetch(server.host, "GET", "/metrics", headers=headers)).status == 401
            assert (await fetch(server.host, "DELETE", "/whep/x", headers=headers)).status == 401
        assert (await fetch(server.host, "GET", "/metrics", headers=bearer("sesame"))).status == 200
        assert (await fetch(server.host, "POST", "/whep", body=sdp, headers={**SDP, **bearer("sesame")})).status == 201
        error, _ = await refused(server.host, Hello(token="wrong"))
        assert error.code == "auth.token"
        async with WsClient(server.host, Hello(token="sesame", codec="raw")) as player:
            await player.next(Frame)


async def test_a_signed_token_lets_in_to_its_role_and_session_only() -> None:
    async with running(CLOSED) as server, WsClient(server.host, Hello(token="sesame", codec="raw")) as player:
        session = player.welcome.session
        token = sign(SECRET, Grant("viewer", session), minutes=1)
        assert (await refused(server.host, Hello(token=token)))[0].code == "auth.role"
        hello = Hello(token=token, session="another", role="viewer")
        assert (await refused(server.host, hello))[0].code == "auth.session"
        async with WsClient(server.host, Hello(token=token, role="viewer", codec="raw")) as viewer:
            assert viewer.welcome.session == session
            await viewer.next(Frame)
        heir = sign(SECRET, Grant("player", session), minutes=1)
        assert (await refused(server.host, Hello(token=heir)))[0].code == "session.taken"
        await player.socket.close()
        async with WsClient(server.host, Hello(token=heir, codec="raw")) as new:
            assert new.welcome.session == session


async def test_pages_of_allowed_origins_may_connect_and_read_the_answer() -> None:
    async with running(CLOSED) as server:
        origin = {"Origin": "https://games.example"}
        asked = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        preflight = await fetch(server.host, "OPTIONS", "/whep", headers=asked)
        assert preflight.headers["access-control-allow-origin"] == "https://games.example"
        answer = await post(server.host, b"", **origin, **bearer("sesame"))
        assert answer.status == 400 and "location" in answer.headers["access-control-expose-headers"].lower()
        async with connect(f"ws://{server.host}/ws", subprotocols=[SUBPROTOCOL], origin="https://games.example"):
            pass
