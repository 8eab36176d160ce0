"""Publish a session's video to an SFU by WHIP (RFC 9725): it takes what is encoded already, as one more viewer."""

import asyncio
import logging
import random
from collections.abc import Callable

from aiortc import RTCRtpSender, RTCSessionDescription
from aiortc.sdp import SessionDescription

from . import aiortc_internals as internals
from .auth import Grant
from .farewell import Farewell, check_last
from .lobby import Lobby
from .mailbox import Messages, Pictures, Shot
from .metrics import Metrics
from .protocol import Hello
from .rtc import RtcConfig, SeatReports, ShotTrack, new_peer
from .seat import Seat
from .whip_http import Resource, WhipConfig, WhipError, delete, post_offer

EXTENSION_ID = 14  # of playout delay in our offers: the highest that one-byte headers have, aiortc counts from 1
MAX_DOUBLINGS = 16

logger = logging.getLogger(__name__)


async def publish(session: str, config: WhipConfig, *, lobby: Lobby, rtc: RtcConfig, metrics: Metrics) -> None:
    """Publish a session that lives until it ends or this is cancelled; connect again whenever the SFU fails.

    Raises Refused if the session cannot be watched.
    """
    seat = await lobby.enter(Hello(role="viewer", session=session), Grant())
    try:
        await Publisher(seat, config, rtc=rtc, metrics=metrics).run()
    finally:
        await lobby.leave(seat)


class Publisher:
    """Keeps one seat's video at one endpoint."""

    def __init__(
        self,
        seat: Seat,
        config: WhipConfig,
        *,
        rtc: RtcConfig,
        metrics: Metrics,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`jitter` draws from [0, 1), so that many publishers do not come back all at once."""
        self._seat, self._config, self._rtc, self._metrics, self._jitter = seat, config, rtc, metrics, jitter
        self._failures = 0

    async def run(self) -> None:
        while self._seat.broadcast.handle.ended is None:
            try:
                await self._publish()
            except Farewell as end:
                logger.info("no longer published: %s", end.code)
                return
            except WhipError as error:
                wait = max(error.retry_after, backoff(self._failures, config=self._config, jitter=self._jitter()))
                logger.warning("not published, again in %.1f s: %s", wait, error)
                self._metrics.refusals.labels("whip.failed").inc()
                self._failures += 1
                await asyncio.sleep(min(wait, self._config.longest_wait))

    async def _publish(self) -> None:
        """One connection, to its end. Raises Farewell if the session ends it, else WhipError."""
        uplink = Uplink(self._seat, rtc=self._rtc, metrics=self._metrics)
        resource: Resource | None = None
        try:
            resource = await post_offer(self._config, await uplink.offer())
            await uplink.connect(resource.answer, timeout=self._config.timeout)
            self._failures = 0
            with self._metrics.connections.labels("whip", "viewer").track_inprogress():
                await self._send(uplink)
        finally:
            await uplink.close()
            if resource is not None:
                await self._delete(resource)

    async def _send(self, uplink: "Uplink") -> None:
        watcher = self._seat.watch("h264")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(uplink.send(watcher.pictures))
                tasks.create_task(_watch_for_end(watcher.messages))
        except* (Farewell, WhipError) as ends:
            end = ends.exceptions[0]
            assert not isinstance(end, ExceptionGroup)
        finally:
            self._seat.unwatch()
        raise end

    async def _delete(self, resource: Resource) -> None:
        try:
            await delete(self._config, resource)
        except WhipError as error:
            logger.info("the endpoint keeps the stream until it misses it: %s", error)


class Uplink:
    """One WebRTC connection that sends: `offer`, `connect` with the answer, `send`; `close` in the end."""

    def __init__(self, seat: Seat, *, rtc: RtcConfig, metrics: Metrics) -> None:
        self._rtc, self._metrics = rtc, metrics
        self._peer = new_peer(rtc)
        self._track = ShotTrack(self._note_sent)
        self._video = self._peer.addTransceiver(self._track, direction="sendonly")
        self._reports = SeatReports(seat)
        self._decided, self._lost = asyncio.Event(), asyncio.Event()
        self._silence: asyncio.Timeout | None = None
        self._peer.on("connectionstatechange", self._follow_state)

    async def offer(self) -> str:
        codecs = RTCRtpSender.getCapabilities("video").codecs
        self._video.setCodecPreferences([codec for codec in codecs if codec.name in ("H264", "rtx")])
        internals.send_packed(self._video.sender, self._reports, playout_delay_ms=self._rtc.playout_delay_ms)
        offer = await self._peer.createOffer()
        for connection in internals.ice_connections(self._peer):
            internals.gather_on(connection, self._rtc.addresses)
        await self._peer.setLocalDescription(offer)
        for connection in internals.ice_connections(self._peer):
            internals.guard(connection, heard=self._hear_sign_of_life)
        extension = f"a=extmap:{EXTENSION_ID} {internals.PLAYOUT_DELAY}\r\na=mid:"
        return self._peer.localDescription.sdp.replace("a=mid:", extension, 1)

    async def connect(self, answer: str, *, timeout: float) -> None:  # noqa: ASYNC109
        """Raises WhipError."""
        try:
            answered = next(media.rtp for media in SessionDescription.parse(answer).media if media.kind == "video")
            await self._peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            internals.accept_playout_delay(self._video, answered.headerExtensions)
        except Exception as error:  # noqa: BLE001 - the connection's edge: aiortc's parser raises what comes
            raise WhipError(f"expected an answer that takes H.264 video: {error!r}") from error
        try:
            async with asyncio.timeout(timeout):
                await self._decided.wait()
        except TimeoutError as error:
            raise WhipError("expected a connection in time") from error
        if self._lost.is_set():
            raise WhipError("expected a connection, got none")

    async def send(self, pictures: Pictures) -> None:
        """Send until the connection is lost, which is a WhipError."""
        self._track.begin(pictures)
        try:
            async with asyncio.timeout(self._rtc.viewer_silence_timeout) as self._silence:
                try:
                    await self._lost.wait()
                finally:
                    self._silence = None  # datagrams go on coming while the connection closes
        except TimeoutError as error:
            raise WhipError(f"expected a sign of life within {self._rtc.viewer_silence_timeout} s") from error
        raise WhipError("expected the connection to last")

    async def close(self) -> None:
        await self._peer.close()

    def _follow_state(self) -> None:
        if self._peer.connectionState in ("failed", "closed"):
            self._lost.set()
        if self._peer.connectionState in ("connected", "failed", "closed"):
            self._decided.set()

    def _note_sent(self, shot: Shot) -> None:
        self._metrics.sent_bytes.labels("whip").inc(len(shot.picture.data))

    def _hear_sign_of_life(self) -> None:
        if self._silence is not None and not self._silence.expired():
            self._silence.reschedule(asyncio.get_running_loop().time() + self._rtc.viewer_silence_timeout)


def backoff(failures: int, *, config: WhipConfig, jitter: float) -> float:
    """Seconds to wait after so many failures in a row: twice as long each time, of which the second half is drawn."""
    longest = min(config.longest_wait, config.first_wait * float(2 ** min(failures, MAX_DOUBLINGS)))
    return longest * (0.5 + 0.5 * jitter)


async def _watch_for_end(messages: Messages) -> None:
    while True:
        check_last(await messages.get())
