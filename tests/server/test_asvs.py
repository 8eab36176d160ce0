"""OWASP ASVS 5.0, chapter V17 (WebRTC), as far as it asks of a server, on real connections; one test for each point.

Elsewhere: TURN (17.1, `test_ice`), whose servers are not ours; the guard's parts (17.2.6, `test_aiortc_internals`);
what is in an offer (17.3.2, `test_offer`); recording (17.2.7), which this server does not do.
"""

import asyncio
import os
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from server.limits import LimitConfig
from server.protocol import Frame, Input, Receipt, encode
from server.rtc import RtcConfig
from server.serve import ServeConfig
from tests.server.rtc_client import RtcClient
from tests.server.running import Running, fetch, running, until
from tests.server.test_rtc import connected, heard, offer, say
from tests.server.ws_client import WsClient

LOCAL = ServeConfig(rtc=RtcConfig(addresses=("127.0.0.1",), handshake_timeout=3.0))
CLIENT_HELLO = b"\x16\xfe\xfd" + bytes(8) + b"\x00\x20\x01" + os.urandom(31)  # a DTLS handshake record, cut short
RTP, RTCP, DTLS = b"\x80\x66", b"\x80\xc8\x00\x06", b"\x17\xfe\xfd"


def transport_of(server: Running) -> Any:
    """The DTLS transport of the only peer."""
    (peer,) = server.house.peers._peers.values()
    return peer._video.sender.transport


async def still_plays(client: RtcClient, seq: int) -> None:
    """Inputs still act, and pictures still come."""
    say(client.input, Input(seq=seq, keys=["ArrowRight"]))
    await until(lambda: heard(client, Receipt)[-1].applied_seq == seq)
    await client.frame()


def flood(client: RtcClient, make: Callable[[int], bytes], *, count: int) -> None:
    """Datagrams from the client's own address, which the server takes for its peer's."""
    (connection,) = client.connections()
    pair = connection._nominated[1]
    for number in range(count):
        pair.protocol.transport.sendto(make(number), pair.remote_addr)


async def test_17_2_1_every_connection_has_a_key_of_its_own_which_is_never_written_down() -> None:
    async with running(LOCAL) as server, RtcClient() as client:
        sdp = await client.offer()
        answers = [(await offer(server, sdp)).body.decode() for _ in range(2)]
        assert len({re.findall("a=fingerprint:sha-256 (.*)", answer)[0] for answer in answers}) == 2


async def test_17_2_2_suites_and_profiles_are_strong() -> None:
    async with running(LOCAL) as server, connected(server) as client:
        await client.frame()
        dtls = transport_of(server)._ssl
        assert re.fullmatch("ECDHE-ECDSA-(AES128-GCM-SHA256|CHACHA20-POLY1305)", dtls.get_cipher_name())
        assert dtls.get_protocol_version_name() in ("DTLSv1.2", "DTLSv1.3")
        assert dtls.get_selected_srtp_profile().startswith(b"SRTP_AEAD_AES_")


async def test_17_2_3_and_4_srtp_that_is_forged_or_malformed_changes_nothing() -> None:
    async with running(LOCAL) as server, connected(server) as client:
        await client.frame()
        for start in (RTP, RTCP, DTLS, b"\x80", b"\xc0", b"\x00", b""):
            flood(client, lambda number, start=start: start + os.urandom(number), count=60)
        await still_plays(client, 1)


async def test_17_2_5_a_flood_of_srtp_is_outlasted() -> None:
    async with running(LOCAL) as server, connected(server) as client:
        await client.frame()
        for seq in range(10):
            flood(client, lambda number: RTP + number.to_bytes(2, "big") + os.urandom(200), count=300)
            await still_plays(client, seq)


async def test_17_2_6_a_client_hello_from_elsewhere_does_not_win_the_race() -> None:
    async with running(LOCAL) as server, RtcClient(protocol="rewander.v1.msgpack") as client:
        answer = (await offer(server, await client.offer())).body.decode()
        (port,) = set(re.findall(r"a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1 (\d+) ", answer))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for _ in range(50):
                stranger.sendto(CLIENT_HELLO, ("127.0.0.1", int(port)))
            await client.accept(answer)
            await client.opened()
            assert await client.frame()
            stranger.setblocking(False)
            with pytest.raises(BlockingIOError):
                stranger.recv(2048)  # not a word to strangers


async def test_17_2_8_a_certificate_other_than_the_offers_is_refused() -> None:
    async with running(LOCAL) as server, RtcClient() as client:
        sdp = await client.offer()
        forged = re.sub("(a=fingerprint:sha-[0-9]+ )..", lambda found: found[1] + "AA", sdp)
        answer = await offer(server, forged)
        if answer.status == 201:
            await client.accept(answer.body.decode())
            with pytest.raises(TimeoutError):
                await client.frame(patience=1.5)
        assert not any(peer.has_connected for peer in server.house.peers._peers.values())
        await until(lambda: not server.house.engine.handles)


async def test_17_3_1_a_flood_of_signalling_is_turned_away_and_players_do_not_feel_it() -> None:
    config = ServeConfig(rtc=LOCAL.rtc, limits=LimitConfig(entries_per_minute=20))
    async with running(config) as server, connected(server) as client:
        await client.frame()
        kind = {"Content-Type": "application/sdp"}
        posts = (fetch(server.host, "POST", "/whep", body=b"v=0", headers=kind) for _ in range(60))
        statuses = [answer.status for answer in await asyncio.gather(*posts)]
        assert statuses.count(429) >= 30 and set(statuses) <= {400, 429}
        await still_plays(client, 1)


async def test_17_3_2_malformed_signalling_is_refused_and_changes_nothing() -> None:
    async with running(LOCAL) as server, connected(server) as client:
        await client.frame()
        sdp = await client.offer()
        for body in (sdp[: len(sdp) // 2], sdp.replace("a=", "a"), sdp.replace("H264", "\0"), "m=video 9\r\n" * 9):
            assert (await offer(server, body)).status == 400
        async with WsClient(server.host) as other:
            await other.socket.send(encode(Input(seq=1))[:-1])
            assert (await other.end())[1] == 1008
        assert len(server.house.peers._peers) == 1
        await still_plays(client, 1)
        async with WsClient(server.host) as next_one:
            await next_one.next(Frame)
