"""The contract with aiortc's internals: two real peers on loopback show that each hook does what we need."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from aioice.stun import Class, Message, Method
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.sdp import SessionDescription

from server import aiortc_internals as internals
from server.encode import EncodeConfig, VideoEncoder
from tests.server.rtc_client import EXTENSION_ID, RtcClient

STEP = 3000  # of the 90 kHz clock


@dataclass
class Noted:
    """What the receiver reported, and how many datagrams of its came."""

    keys: int = 0
    rates: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    datagrams: int = 0

    def needs_key(self) -> None:
        self.keys += 1

    def estimates(self, bit_rate: int) -> None:
        self.rates.append(bit_rate)

    def lost(self, fraction: float) -> None:
        self.losses.append(fraction)

    def hear(self) -> None:
        self.datagrams += 1


class Film(MediaStreamTrack):
    """Grey pictures, packed, brighter by one each; `sent` keeps the RTP timestamp of each one that has gone out."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self.sender: Any = None
        self.sent: list[int] = []
        self._encoder = VideoEncoder((64, 64), frame_rate=30, config=EncodeConfig())
        self._count = 0

    async def recv(self) -> Any:
        if self._count:
            self.sent.append(internals.rtp_timestamp(self.sender))
        await asyncio.sleep(0.01)
        frame = np.full((64, 64, 3), 40 + self._count % 150, np.uint8)
        picture = self._encoder.encode(frame, key=self._count % 30 == 0, bit_rate=1_000_000)
        self._count += 1
        return internals.Packed(picture.payloads, self._count * STEP)


@dataclass
class Pair:
    client: RtcClient
    peer: RTCPeerConnection
    film: Film
    noted: Noted
    answer: str


def without_candidates(sdp: str) -> str:
    return "".join(line for line in sdp.splitlines(True) if "candidate" not in line)


@asynccontextmanager
async def connected() -> AsyncIterator[Pair]:
    """A sender with every hook in place, and a client that plays what it sends."""
    peer, film, noted = RTCPeerConnection(RTCConfiguration(iceServers=[])), Film(), Noted()
    async with RtcClient() as client:
        offer = without_candidates(await client.offer())
        transceiver = peer.addTransceiver(film, direction="sendonly")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([c for c in codecs if c.name in ("H264", "rtx")])
        film.sender = transceiver.sender
        await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        internals.accept_playout_delay(transceiver, SessionDescription.parse(offer).media[0].rtp.headerExtensions)
        internals.send_packed(film.sender, noted, playout_delay_ms=0)
        for connection in internals.ice_connections(peer):
            internals.gather_on(connection, ["127.0.0.1"])
        await peer.setLocalDescription(await peer.createAnswer())
        for connection in internals.ice_connections(peer):
            internals.guard(connection, heard=noted.hear)
        answer = peer.localDescription.sdp
        await client.accept(answer)
        try:
            yield Pair(client, peer, film, noted, answer)
        finally:
            await peer.close()


async def test_packed_pictures_arrive_with_the_timestamps_we_are_told() -> None:
    async with connected() as pair:
        shades = [int((await pair.client.frame()).to_ndarray(format="rgb24").mean()) for _ in range(5)]
        assert shades == sorted(shades) and shades[-1] - shades[0] >= 3
        await asyncio.sleep(0.05)
        arrived = set(pair.client.heard.timestamps)
        assert len(arrived) > 3
        assert arrived <= set(pair.film.sent)
        assert np.all(np.diff(pair.film.sent) == STEP)


async def test_playout_delay_is_answered_and_on_every_packet() -> None:
    async with connected() as pair:
        await pair.client.frame()
        assert f"a=extmap:{EXTENSION_ID} {internals.PLAYOUT_DELAY}" in pair.answer
        element = bytes([EXTENSION_ID << 4 | 2, 0, 0, 0])
        assert pair.client.heard.elements
        assert all(element in value for value in pair.client.heard.elements)


async def test_reports_of_the_receiver_come_through() -> None:
    async with connected() as pair:
        await pair.client.frame()
        assert pair.noted.keys == 0
        await pair.client.ask_for_key()
        async with asyncio.timeout(15):
            while not (pair.noted.keys and pair.noted.rates and pair.noted.losses):
                await pair.client.frame()
        assert pair.noted.keys == 1
        assert pair.noted.rates[-1] > 10_000
        assert pair.noted.losses[-1] == 0.0
        assert pair.noted.datagrams > 5


async def test_agents_listen_where_they_are_told() -> None:
    async with connected() as pair:
        hosts = {line.split()[4] for line in pair.answer.splitlines() if line.startswith("a=candidate:")}
        assert hosts == {"127.0.0.1"}
        await pair.client.frame()


async def test_datagrams_from_elsewhere_are_dropped_and_do_no_harm() -> None:
    async with connected() as pair:
        await pair.client.frame()
        (connection,) = {id(c): c for c in internals.ice_connections(pair.peer)}.values()
        before = pair.noted.datagrams
        line = next(line for line in pair.answer.splitlines() if line.startswith("a=candidate:"))
        unsigned = bytes(Message(message_method=Method.BINDING, message_class=Class.REQUEST))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for data in (b"", b"\x00", b"\x16" * 50, b"\x80" * 50, unsigned):
                stranger.sendto(data, ("127.0.0.1", int(line.split()[5])))
        got = [await pair.client.frame() for _ in range(5)]
        assert len(got) == 5
        assert connection._queue.qsize() == 0
        assert pair.noted.datagrams - before < 50


async def test_the_guard_tells_strangers_from_the_peer() -> None:
    async with connected() as pair:
        await pair.client.frame()
        (connection,) = internals.ice_connections(pair.peer)
        (protocol,) = connection._protocols
        (peer_address,) = {(c.host, c.port) for c in connection.remote_candidates}
        taken: list[bytes] = []

        def take(data: bytes, component: int) -> None:
            assert component == 1
            taken.append(data)

        connection.data_received = take  # type: ignore[method-assign]
        before = pair.noted.datagrams
        protocol.datagram_received(b"\x16 from the peer", peer_address)
        protocol.datagram_received(b"\x16 from a stranger", ("127.0.0.1", 1))
        protocol.datagram_received(b"", peer_address)
        assert taken == [b"\x16 from the peer"]
        assert pair.noted.datagrams == before + 2


async def test_what_waits_for_dtls_is_bounded() -> None:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver("video")
    (connection,) = internals.ice_connections(peer)
    internals.guard(connection, heard=lambda: None)
    for _ in range(internals.DATAGRAMS_WAITING + 100):
        connection.data_received(b"\x16", 1)
        connection.data_received(b"\x01", 1)
    assert connection._queue.qsize() == internals.DATAGRAMS_WAITING
    await peer.close()


@pytest.mark.parametrize("identifier", [0, 15, 300])
async def test_an_extension_that_cannot_be_sent_is_not_accepted(identifier: int) -> None:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    transceiver = peer.addTransceiver("video")
    offered = [internals.RTCRtpHeaderExtensionParameters(id=identifier, uri=internals.PLAYOUT_DELAY)]
    internals.accept_playout_delay(transceiver, offered)
    assert transceiver._headerExtensions == []
    await peer.close()
