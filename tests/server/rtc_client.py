"""A WebRTC client on aiortc, as a page would be: receives video, has the data channels, records what arrives."""

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aioice import Connection
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription

from server.aiortc_internals import PLAYOUT_DELAY, gather_on, ice_connections

EXTENSION_ID = 9
PATIENCE = 60.0  # seconds: of a machine that is busy with other things


@dataclass
class Heard:
    """What came over the wire, in order."""

    timestamps: list[int] = field(default_factory=list)  # of RTP packets
    elements: list[bytes] = field(default_factory=list)  # header extensions of RTP packets
    messages: list[bytes] = field(default_factory=list)


class RtcClient:
    """Offers to receive video, on one address only; `async with` closes it."""

    def __init__(self, *, channels: bool = True, protocol: str = "", address: str = "127.0.0.1") -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.heard = Heard()
        self.location = ""
        self._address = address
        self.input: RTCDataChannel | None = None
        self.events: RTCDataChannel | None = None
        self._receiver = self.peer.addTransceiver("video", direction="recvonly").receiver
        if channels:
            self.input = self.peer.createDataChannel("input", ordered=False, maxRetransmits=0, protocol=protocol)
            self.events = self.peer.createDataChannel("events", protocol=protocol)
            self.events.on("message", self.heard.messages.append)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.peer.close()

    async def offer(self) -> str:
        """The SDP, with playout delay on offer as browsers do, which aiortc does not."""
        for connection in self.connections():
            gather_on(connection, [self._address])
        await self.peer.setLocalDescription(await self.peer.createOffer())
        extension = f"a=extmap:{EXTENSION_ID} {PLAYOUT_DELAY}\r\na=mid:"
        return self.peer.localDescription.sdp.replace("a=mid:", extension, 1)

    def connections(self) -> list[Connection]:
        return ice_connections(self.peer)

    async def accept(self, answer: str) -> None:
        self._record()
        await self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def frame(self, *, patience: float = PATIENCE) -> Any:
        """The next decoded frame; `pts` counts from `rtp_origin`."""
        async with asyncio.timeout(patience):
            return await self._receiver.track.recv()

    @property
    def rtp_origin(self) -> int:
        """The RTP timestamp of the first decoded frame, from which `pts` counts."""
        return self._receiver._RTCRtpReceiver__timestamp_mapper._origin

    async def opened(self, *, patience: float = PATIENCE) -> None:
        """Wait for both data channels."""
        async with asyncio.timeout(patience):
            for channel in (self.input, self.events):
                assert channel is not None
                if channel.readyState != "open":
                    is_open = asyncio.Event()
                    channel.once("open", is_open.set)
                    await is_open.wait()

    async def ask_for_key(self) -> None:
        """Send a picture loss indication for the video."""
        (ssrc,) = {source.source for source in self._receiver.getSynchronizationSources()}
        await self._receiver._send_rtcp_pli(ssrc)

    def _record(self) -> None:
        receive, heard = self._receiver._handle_rtp_packet, self.heard

        async def handle(packet: Any, arrival_time_ms: int) -> None:
            heard.timestamps.append(packet.timestamp)
            await receive(packet, arrival_time_ms)

        extensions = self._receiver.transport._rtp_header_extensions_map
        get = extensions.get

        def read(profile: int, value: bytes) -> Any:
            heard.elements.append(value)
            return get(profile, value)

        self._receiver._handle_rtp_packet = handle
        extensions.get = read
