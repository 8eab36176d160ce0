"""All that we touch of aiortc and aioice beyond what they promise; its test fails when they move."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from aioice import Connection
from aiortc import RTCPeerConnection, RTCRtpSender, RTCRtpTransceiver
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    AnyRtcpPacket,
    HeaderExtensions,
    HeaderExtensionsMap,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpSrPacket,
    unpack_remb_fci,
)

PLAYOUT_DELAY = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
CERTIFICATES = "_RTCPeerConnection__certificates"
ENCODER = "_RTCRtpSender__encoder"
EXTENSIONS = "_RTCRtpSender__rtp_header_extensions_map"
TIMESTAMP = "_RTCRtpSender__rtp_timestamp"
ONE_BYTE_HEADERS = 0xBEDE  # RFC 8285 section 4.2
CIPHERS = "ECDHE-{0}-AES128-GCM-SHA256:ECDHE-{0}-CHACHA20-POLY1305"  # RFC 8827, section 6.5, and its like
DATAGRAMS_WAITING = 512  # of 1.5 kB at most: inputs and reports come at a few hundred a second


Receive = Callable[[bytes | str, tuple[Any, ...]], None]


@dataclass(frozen=True, slots=True)
class Packed:
    """A picture as RTP payloads (RFC 6184) at a time of the 90 kHz clock: what a track of ours returns."""

    payloads: tuple[bytes, ...]
    timestamp: int


class Reports(Protocol):
    """Who is told what the receiver of a sender's media reports by RTCP."""

    def needs_key(self) -> None: ...

    def estimates(self, bit_rate: int) -> None: ...

    def lost(self, fraction: float) -> None: ...


class _PassThrough:
    """The sender's encoder: pictures come packed. Without `target_bitrate`, REMB restarts nothing."""

    def pack(self, data: Packed) -> tuple[list[bytes], int]:
        return list(data.payloads), data.timestamp


class _PlayoutDelay(HeaderExtensionsMap):
    """Adds the playout-delay extension to every packet: minimum 0 and a maximum, in units of 10 ms, 12 bits each."""

    def __init__(self, maximum_ms: int) -> None:
        super().__init__()
        self._value = (maximum_ms // 10 & 0xFFF).to_bytes(3, "big")
        self._element = b""

    def configure(self, parameters: RTCRtpParameters) -> None:
        super().configure(parameters)
        for extension in parameters.headerExtensions:
            if extension.uri == PLAYOUT_DELAY:
                self._element = bytes([extension.id << 4 | len(self._value) - 1]) + self._value

    def set(self, values: HeaderExtensions) -> tuple[int, bytes]:
        profile, packed = super().set(values)  # padded to 4 bytes, as our element is by itself
        return (profile, packed + self._element) if profile == ONE_BYTE_HEADERS else (profile, packed)


def send_packed(sender: RTCRtpSender, reports: Reports, *, playout_delay_ms: int) -> None:
    """Make `sender` send what its track packed, and tell `reports` what comes back. Before the answer is set."""
    setattr(sender, ENCODER, _PassThrough())
    setattr(sender, EXTENSIONS, _PlayoutDelay(playout_delay_ms))
    handle: Callable[[AnyRtcpPacket], Awaitable[None]] = sender._handle_rtcp_packet

    async def observe(packet: AnyRtcpPacket) -> None:
        _report(packet, sender._ssrc, reports)
        await handle(packet)  # retransmissions and statistics

    sender._handle_rtcp_packet = observe  # type: ignore[method-assign]


def _report(packet: AnyRtcpPacket, ssrc: int, reports: Reports) -> None:
    match packet:
        case RtcpPsfbPacket() if packet.fmt in (RTCP_PSFB_PLI, RTCP_PSFB_FIR):
            reports.needs_key()
        case RtcpPsfbPacket() if packet.fmt == RTCP_PSFB_APP and packet.fci[:4] == b"REMB":
            bit_rate, ssrcs = unpack_remb_fci(packet.fci)
            if ssrc in ssrcs:
                reports.estimates(bit_rate)
        case RtcpRrPacket() | RtcpSrPacket():
            for block in packet.reports:
                if block.ssrc == ssrc:
                    reports.lost(block.fraction_lost / 256)


def rtp_timestamp(sender: RTCRtpSender) -> int:
    """The timestamp of the last packet sent, as the receiver sees it: aiortc adds a random origin to ours."""
    value: int = getattr(sender, TIMESTAMP)
    return value


def accept_playout_delay(transceiver: RTCRtpTransceiver, offered: Sequence[RTCRtpHeaderExtensionParameters]) -> None:
    """Answer the extension if it was `offered`. After setRemoteDescription, before createAnswer."""
    transceiver._headerExtensions += [x for x in offered if x.uri == PLAYOUT_DELAY and 0 < x.id < 15]


def accept_rsa(peer: RTCPeerConnection) -> None:
    """Let the other side prove itself by RSA too, as GStreamer 1.22 does; aiortc knows suites for ECDSA only."""
    for certificate in getattr(peer, CERTIFICATES):
        certificate._create_ssl_context = partial(_widened, certificate._create_ssl_context)


def _widened(create: Callable[..., Any], srtp_profiles: Any) -> Any:
    context = create(srtp_profiles=srtp_profiles)
    context.set_cipher_list(":".join(CIPHERS.format(kind) for kind in ("ECDSA", "RSA")).encode())
    return context


def ice_connections(peer: RTCPeerConnection) -> list[Connection]:
    """The ICE agents of a peer, each once."""
    transports = [transceiver.sender.transport.transport for transceiver in peer.getTransceivers()]
    if peer.sctp is not None:
        transports.append(peer.sctp.transport.transport)
    return list({id(transport): transport._connection for transport in transports}.values())


def gather_on(connection: Connection, chosen: Sequence[str]) -> None:
    """Let an ICE agent listen on `chosen` addresses, or else on all of the host's. Before setLocalDescription.

    aioice leaves 127.0.0.1 out, so that a host with no other address has none; here it then has that one.
    """
    gather = connection.get_component_candidates

    async def gather_chosen(component: int, addresses: list[str], timeout: int = 5) -> Any:  # noqa: ASYNC109
        return await gather(component, list(chosen) or addresses or ["127.0.0.1"], timeout)

    connection.get_component_candidates = gather_chosen  # type: ignore[method-assign]


def guard(connection: Connection, *, heard: Callable[[], None]) -> None:
    """Take only STUN from sources that have not proven the ICE password. After setLocalDescription.

    aioice passes any datagram from anywhere to DTLS over a queue without bound, and an empty one ends the
    connection (OWASP ASVS 5.0, 17.2). `heard` is called for every datagram of the peer itself.
    """
    connection.data_received = _bounded(connection)  # type: ignore[method-assign, assignment]
    for protocol in connection._protocols:
        receive = protocol.datagram_received
        protocol.datagram_received = _filtered(connection, receive, heard)  # type: ignore[method-assign, assignment]


def _bounded(connection: Connection) -> Callable[[bytes, int], None]:
    def data_received(data: bytes, component: int) -> None:
        if data[0] >= 20 and connection._queue.qsize() < DATAGRAMS_WAITING:  # DTLS and RTP, by RFC 7983
            connection._queue.put_nowait((data, component))

    return data_received


def _filtered(connection: Connection, receive: Receive, heard: Callable[[], None]) -> Receive:
    def datagram_received(data: bytes | str, addr: tuple[Any, ...]) -> None:
        assert isinstance(data, bytes)  # str comes from text transports only
        # Whoever made a check with the right password is a remote candidate; from offers we take none.
        known = any((c.host, c.port) == addr[:2] for c in connection.remote_candidates)
        if known:
            heard()
        if data and (known or data[0] < 4):
            receive(data, addr)

    return datagram_received
