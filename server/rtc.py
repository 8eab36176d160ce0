"""The WebRTC edge: one peer for each offer, with a video track and, from its client, two data channels."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.sdp import SessionDescription

from . import aiortc_internals as internals
from .auth import Refused
from .farewell import ENDS, End, Left, check_last, last_word, survived
from .ice import IceConfig
from .logs import current_session
from .mailbox import Messages, Pictures, Shot
from .metrics import Metrics
from .protocol import SUBPROTOCOL, Ack, FromClient, Input, Message, ProtocolError, encode
from .seat import Seat

NUM_WAITING = 32  # messages of a client that wait to be obeyed; controls never wait
MAX_UNSENT = 262_144  # bytes that may wait on the events channel; a client that takes none loses reports
EVENTS_TIMEOUT = 2.0  # seconds for a player's client to open its events channel: the world waits for it
LINGER = 0.1  # seconds for the last message to leave before the connection closes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RtcConfig:
    """How peers connect and when they are given up; times in seconds."""

    handshake_timeout: float = 10.0
    silence_timeout: float = 4.5  # of clients with channels, which ping every second
    viewer_silence_timeout: float = 15.0  # of standard players, which only report: some do so every 5 seconds
    playout_delay_ms: int = 0  # most that a receiver may add for smoothness
    max_handshakes: int = 32
    addresses: tuple[str, ...] = ()  # to listen on; all of the host's by default
    ice: IceConfig = IceConfig()


def new_peer(config: RtcConfig) -> RTCPeerConnection:
    """Knows no servers but those of `config`: by itself aiortc asks a third party for our address."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[RTCIceServer(uri) for uri in config.ice.stun]))
    internals.accept_rsa(peer)
    return peer


class ShotTrack(MediaStreamTrack):
    """A video track of pictures that are packed already; tells `sent` when the last packet of one has left."""

    kind = "video"

    def __init__(self, sent: Callable[[Shot], None]) -> None:
        super().__init__()
        self._sent = sent
        self._pictures: Pictures | None = None
        self._begun = asyncio.Event()
        self._leaving: Shot | None = None

    def begin(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._begun.set()

    async def recv(self) -> internals.Packed:  # type: ignore[override]  # the sender passes it to our encoder as it is
        if self._leaving is not None:  # the sender asks for more once it has sent all
            self._sent(self._leaving)
            self._leaving = None
        await self._begun.wait()
        assert self._pictures is not None
        self._leaving = await self._pictures.get()
        return internals.Packed(self._leaving.picture.payloads, self._leaving.timestamp)


class SeatReports:
    """What a receiver reports: all may ask for key frames, and only the player's link sets the bit rate."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self.needs_key = seat.broadcast.needs_key

    def estimates(self, bit_rate: int) -> None:
        if self._seat.role == "player":
            self._seat.broadcast.estimates(bit_rate)

    def lost(self, fraction: float) -> None:
        if self._seat.role == "player":
            self._seat.broadcast.lost(fraction)


class Peer:
    """One WebRTC connection: `answer` its offer, then `run` it to its end."""

    def __init__(self, seat: Seat, *, config: RtcConfig, clock: Callable[[], float], metrics: Metrics) -> None:
        """`clock` is the engine's."""
        self._seat, self._config, self._clock, self._metrics = seat, config, clock, metrics
        self._peer = new_peer(config)
        self._track = ShotTrack(self._note_sent)
        self._video = self._peer.addTransceiver(self._track, direction="sendonly")
        self._events: RTCDataChannel | None = None
        self._inbox: asyncio.Queue[FromClient] = asyncio.Queue(NUM_WAITING)
        self._decided, self._over, self._can_talk = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.has_connected = False
        self._end: ProtocolError | Left = Left()
        self._silence: asyncio.Timeout | None = None
        self._peer.on("connectionstatechange", self._follow_state)
        self._peer.on("datachannel", self._take_channel)

    async def answer(self, offer: str) -> str:
        """The SDP that answers a clean offer; raises Refused. Next: `run`."""
        codecs = RTCRtpSender.getCapabilities("video").codecs
        self._video.setCodecPreferences([codec for codec in codecs if codec.name in ("H264", "rtx")])
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            self._hook(SessionDescription.parse(offer))
            await self._peer.setLocalDescription(await self._peer.createAnswer())
        except Exception as error:  # noqa: BLE001 - the connection's edge: aiortc's parser raises what comes
            raise _unfit(f"expected an offer to receive H.264 video: {error!r}") from error
        if self._video.currentDirection != "sendonly":
            raise _unfit(f"expected an offer to receive video, got one for {self._video.currentDirection} video")
        for connection in internals.ice_connections(self._peer):
            internals.guard(connection, heard=self._hear_sign_of_life)
        return self._peer.localDescription.sdp

    def leave(self) -> None:
        """The client has said over HTTP that it is gone."""
        self._finish(Left())

    async def run(self) -> None:
        """Serve the client until it leaves, falls silent, or has to go."""
        current_session.set(self._seat.welcome.session)
        try:
            await survived(self._run(), "a connection failed")
        finally:
            await self.close()

    async def _run(self) -> None:
        try:
            await self._wait_for_connection()
            async with asyncio.timeout(self._silence_timeout) as self._silence:
                try:
                    await self._serve()
                finally:
                    self._silence = None  # datagrams go on coming while the connection closes
        except Left:
            logger.info("a client left")
        except TimeoutError:
            self._metrics.refusals.labels("rtc.silent").inc()
        except ENDS as end:
            await self._say_farewell(end)

    async def close(self) -> None:
        await self._peer.close()

    async def _wait_for_connection(self) -> None:
        try:
            async with asyncio.timeout(self._config.handshake_timeout):
                await self._decided.wait()
        except TimeoutError as error:
            raise Refused("rtc.handshake", "expected a connection in time", status=408) from error
        if self._over.is_set():
            raise self._end

    async def _wait_for_events(self) -> None:
        """The world of a player goes on only when it hears of it, so that it loses nothing by a slow connection."""
        if self._seat.role == "player" and self._peer.sctp is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVENTS_TIMEOUT):
                    await self._can_talk.wait()

    async def _serve(self) -> None:
        await self._wait_for_events()
        watcher = self._seat.watch("h264")
        self._track.begin(watcher.pictures)
        if self._events is not None:
            self._seat.greet()
        end: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send_messages(watcher.messages))
                tasks.create_task(self._obey())
                tasks.create_task(self._wait_for_end())
        except* (Left, *ENDS) as ends:
            end = ends.exceptions[0]
        if end is not None:
            raise end

    async def _send_messages(self, messages: Messages) -> None:
        while True:
            message = await messages.get()
            check_last(message)
            self._send(message)

    async def _obey(self) -> None:
        while True:
            await self._seat.obey(await self._inbox.get())

    async def _wait_for_end(self) -> None:
        await self._over.wait()
        raise self._end

    async def _say_farewell(self, end: End) -> None:
        self._metrics.refusals.labels(end.code).inc()
        self._send(last_word(end))
        await asyncio.sleep(LINGER)

    def _hook(self, offer: SessionDescription) -> None:
        """Put our packets, our extension and our ears into aiortc's peer."""
        offered = next(media.rtp.headerExtensions for media in offer.media if media.kind == "video")
        internals.accept_playout_delay(self._video, offered)
        reports = SeatReports(self._seat)
        internals.send_packed(self._video.sender, reports, playout_delay_ms=self._config.playout_delay_ms)
        for connection in internals.ice_connections(self._peer):
            internals.gather_on(connection, self._config.addresses)

    def _follow_state(self) -> None:
        if self._peer.connectionState == "connected":
            self.has_connected = True
            self._decided.set()
        elif self._peer.connectionState in ("failed", "closed"):
            self._finish(Left())

    def _finish(self, end: ProtocolError | Left) -> None:
        if not self._over.is_set():
            self._end = end
            self._over.set()
            self._decided.set()
            self._can_talk.set()

    def _take_channel(self, channel: RTCDataChannel) -> None:
        if channel.protocol != SUBPROTOCOL or channel.label not in ("input", "events"):
            channel.close()
            return
        channel.on("message", self._receive)
        if channel.label == "events":
            self._events = channel
            self._can_talk.set()
            self._seat.greet()

    def _receive(self, data: bytes | str) -> None:
        try:
            if isinstance(data, str):
                raise ProtocolError("message.malformed", "expected a binary message, got text")
            message = self._seat.read(data)
            if isinstance(message, Input):
                self._seat.steer(message)
            elif isinstance(message, Ack):
                raise ProtocolError("message.order", "expected no ack: RTCP says what arrives")
            else:
                self._inbox.put_nowait(message)
        except ProtocolError as error:
            self._finish(error)
        except asyncio.QueueFull:
            self._finish(ProtocolError("limit.messages", f"expected at most {NUM_WAITING} messages that wait"))

    def _send(self, message: Message) -> None:
        events = self._events
        if events is not None and events.readyState == "open" and events.bufferedAmount < MAX_UNSENT:
            events.send(encode(message))

    def _note_sent(self, shot: Shot) -> None:
        now = self._clock()
        rtp = internals.rtp_timestamp(self._video.sender)
        self._send(msgspec.structs.replace(shot.receipt, t_sent=1000 * now, rtp=rtp))
        self._metrics.fan_out.observe(now - shot.made)
        self._metrics.sent_bytes.labels("rtc").inc(len(shot.picture.data))

    @property
    def _silence_timeout(self) -> float:
        return self._config.silence_timeout if self._peer.sctp else self._config.viewer_silence_timeout

    def _hear_sign_of_life(self) -> None:
        if self._silence is not None and not self._silence.expired():
            self._silence.reschedule(asyncio.get_running_loop().time() + self._silence_timeout)


def _unfit(message: str) -> Refused:
    return Refused("offer.unfit", message, status=400)
