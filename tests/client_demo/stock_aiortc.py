"""What most servers do, to measure against: a plain aiortc `VideoStreamTrack`, default codecs, an ordered channel."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import av
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from fastapi import FastAPI, Request, Response

from tests.client_demo.blink_model import BRIGHT, DARK, MovingTexture

PAGE = """<!doctype html><title>stock aiortc</title><video id="video" muted playsinline autoplay></video>
<script type="module">
const peer = new RTCPeerConnection({ iceServers: [] });
const channel = peer.createDataChannel("input");
const { receiver } = peer.addTransceiver("video", { direction: "recvonly" });
document.getElementById("video").srcObject = new MediaStream([receiver.track]);
await peer.setLocalDescription();
const answer = await fetch("offer", { method: "POST", body: peer.localDescription.sdp });
await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
addEventListener("keydown", () => channel.send("1"));
addEventListener("keyup", () => channel.send("0"));
</script>"""


class LightTrack(VideoStreamTrack):
    """The same picture as `BlinkModel`'s, at aiortc's own 30 frames per second."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.light = DARK
        self._texture = MovingTexture(size)
        self._num_frames = 0

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        frame = av.VideoFrame.from_ndarray(self._texture(self.light, self._num_frames), format="rgb24")
        frame.pts, frame.time_base = pts, time_base
        self._num_frames += 1
        return frame


def stock_app(size: int = 128) -> FastAPI:
    peers: list[RTCPeerConnection] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for peer in peers:
            await peer.close()

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def page() -> Response:
        return Response(PAGE, media_type="text/html")

    @app.post("/offer")
    async def offer(request: Request) -> Response:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peers.append(peer)
        track = LightTrack(size)

        @peer.on("datachannel")
        def on_channel(channel: object) -> None:
            @channel.on("message")  # type: ignore[attr-defined,untyped-decorator]
            def on_message(message: str) -> None:
                track.light = BRIGHT if message == "1" else DARK

        peer.addTrack(track)
        await peer.setRemoteDescription(RTCSessionDescription((await request.body()).decode(), "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        return Response(peer.localDescription.sdp, media_type="application/sdp")

    return app
