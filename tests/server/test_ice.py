"""ICE servers as clients are told of them, and TURN credentials as a TURN server checks them."""

import base64
import hashlib
import hmac
import time
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.auth import AuthConfig
from server.ice import IceConfig, ice_links, turn_credential
from server.rtc import RtcConfig, new_peer
from server.serve import ServeConfig
from tests.server.rtc_client import RtcClient
from tests.server.running import Answer, fetch, running

SECRET = "north"
ICE = IceConfig(
    stun=("stun:stun.example:3478",),
    turn=("turn:turn.example:3478?transport=udp", "turns:turn.example"),
    turn_secret=SECRET,
)


def lets_in(secret: str, username: str, password: str, *, now: float) -> bool:
    """What coturn does with `use-auth-secret`, whose names are `expiry` or `expiry:user`."""
    proof = base64.b64encode(hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()).decode()
    return password == proof and int(username.split(":")[0]) > now


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.integers(0, 2**33), st.integers(2, 3600))
def test_a_credential_opens_until_it_expires_and_only_where_its_secret_is(secret: str, now: int, seconds: int) -> None:
    made = turn_credential(secret, now=now, seconds=seconds)
    assert lets_in(secret, made.username, made.password, now=now + seconds - 1)
    assert not lets_in(secret, made.username, made.password, now=now + seconds)
    assert not lets_in(secret + "x", made.username, made.password, now=now)
    assert not lets_in(secret, str(int(made.username) + 1), made.password, now=now)


def test_a_credential_is_what_openssl_makes_of_it() -> None:
    """By `printf %s 1433895918 | openssl dgst -sha1 -hmac north -binary | base64`."""
    made = turn_credential("north", now=1433895018.0, seconds=900)
    assert (made.username, made.password) == ("1433895918", "3dkl8uIBelQlraT8v9eCSJTyt+U=")


@pytest.mark.parametrize(
    "wrong",
    [
        {"stun": ("turn:host",)},
        {"stun": ('stun:host>; rel="evil"',)},
        {"turn": ("turn:host",)},
        {"turn_secret": "s"},
        {"turn": ("turn:host?transport=sctp",), "turn_secret": "s"},
        {"turn": ("turn:host\r\nX: y",), "turn_secret": "s"},
        {"turn": ("turn:host",), "turn_secret": "s", "turn_seconds": 3601.0},
        {"turn": ("turn:host",), "turn_secret": "s", "turn_seconds": 0.0},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        IceConfig(**wrong)  # type: ignore[arg-type]


def test_links_name_each_server_and_stun_has_no_credential() -> None:
    stun, udp, tls = (parse(link) for link in ice_links(ICE, now=1000.0))
    assert stun == ("stun:stun.example:3478", {"rel": "ice-server"})
    assert (udp[0], tls[0]) == ICE.turn
    assert udp[1] == tls[1] and udp[1]["credential-type"] == "password"
    assert udp[1]["username"] == "4600" and lets_in(SECRET, "4600", udp[1]["credential"], now=4599)
    assert ice_links(IceConfig(), now=0.0) == []


def parse(link: str) -> tuple[str, dict[str, str]]:
    """A Link header's target and attributes; the standard library reads their like in a Content-Type."""
    target, _, rest = link.partition(">")
    header = Message()
    header["Content-Type"] = "x/y" + rest
    return target.removeprefix("<"), dict(header.get_params(failobj=[])[1:])


def links_of(answer: Answer) -> list[tuple[str, dict[str, str]]]:
    return [parse(link) for link in answer.links]


def test_the_server_asks_only_the_servers_it_was_told_of() -> None:
    def servers(ice: IceConfig) -> list[str]:
        return [server.urls for server in new_peer(RtcConfig(ice=ice))._RTCPeerConnection__configuration.iceServers]

    assert servers(IceConfig()) == []
    assert servers(ICE) == ["stun:stun.example:3478"]


async def test_whep_hands_credentials_to_whom_it_lets_in_and_to_nobody_else() -> None:
    turn = IceConfig(turn=ICE.turn, turn_secret=SECRET)
    config = ServeConfig(auth=AuthConfig(token="sesame"), rtc=RtcConfig(addresses=("127.0.0.1",), ice=turn))
    async with running(config) as server, RtcClient() as client:
        sdp, bearer = (await client.offer()).encode(), {"Authorization": "Bearer sesame"}
        kind = {"Content-Type": "application/sdp"}
        opened = await fetch(server.host, "POST", "/whep", body=sdp, headers=kind | bearer)
        asked = await fetch(server.host, "OPTIONS", "/whep", headers=bearer)
        assert (opened.status, asked.status, asked.headers["accept-post"]) == (201, 200, "application/sdp")
        for answer in (opened, asked):
            found = links_of(answer)
            assert [target for target, _ in found] == list(ICE.turn)
            assert all(lets_in(SECRET, a["username"], a["credential"], now=time.time() + 3500) for _, a in found)
        for answer in (
            await fetch(server.host, "POST", "/whep", body=sdp, headers=kind),
            await fetch(server.host, "OPTIONS", "/whep", headers={"Authorization": "Bearer wrong"}),
        ):
            assert (answer.status, answer.links) == (401, ())
