"""A WHIP endpoint as an SFU has one (RFC 9725), on aiortc and FastAPI: it takes a stream and decodes it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from fastapi import FastAPI, Request, Response

from server.aiortc_internals import PLAYOUT_DELAY, gather_on, ice_connections

PATIENCE = 15.0  # seconds: of a machine that is busy with other things


@dataclass
class Stream:
    """One that was published here."""

    peer: RTCPeerConnection
    offer: str
    track: Any = None

    async def frame(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            return await self.track.recv()


@dataclass
class Receiver:
    """`refusals` are the statuses that the next offers get instead of an answer."""

    token: str
    refusals: list[int] = field(default_factory=list)
    url: str = ""
    streams: list[Stream] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)  # method and path of every request

    def app(self) -> FastAPI:
        app = FastAPI()
        app.add_api_route("/whip/room", self.publish, methods=["POST"])
        app.add_api_route("/moved", self.redirect, methods=["POST"])
        app.add_api_route("/loop", self.loop, methods=["POST"])
        app.add_api_route("/stream/{number}", self.end, methods=["DELETE"])
        return app

    async def publish(self, request: Request) -> Response:
        self._note(request)
        if self.refusals:
            return Response(status_code=self.refusals.pop(0), headers={"Retry-After": "0"})
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return Response(status_code=401)
        assert request.headers["content-type"] == "application/sdp"
        answer = await self._answer((await request.body()).decode())
        place = f"/stream/{len(self.streams) - 1}"
        return Response(answer, 201, media_type="application/sdp", headers={"Location": place, "ETag": '"x"'})

    async def redirect(self, request: Request) -> Response:
        self._note(request)
        return Response(status_code=307, headers={"Location": f"whip/room?{request.url.query}"})

    async def loop(self, request: Request) -> Response:
        self._note(request)
        return Response(status_code=308, headers={"Location": "/loop"})

    async def end(self, request: Request, number: int) -> Response:
        self._note(request)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return Response(status_code=401)
        self.deleted.append(f"/stream/{number}")
        await self.streams[number].peer.close()
        return Response()

    async def close(self) -> None:
        for stream in self.streams:
            await stream.peer.close()

    async def _answer(self, offer: str) -> str:
        stream = Stream(RTCPeerConnection(RTCConfiguration(iceServers=[])), offer)
        self.streams.append(stream)
        stream.peer.on("track", lambda track: setattr(stream, "track", track))
        await stream.peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        for transceiver in stream.peer.getTransceivers():  # as SFUs do that keep the extension for their viewers
            transceiver._headerExtensions += [
                extension
                for media in stream.peer._RTCPeerConnection__pendingRemoteDescription.media
                for extension in media.rtp.headerExtensions
                if extension.uri == PLAYOUT_DELAY
            ]
        for connection in ice_connections(stream.peer):
            gather_on(connection, ["127.0.0.1"])
        await stream.peer.setLocalDescription(await stream.peer.createAnswer())
        return stream.peer.localDescription.sdp

    def _note(self, request: Request) -> None:
        self.seen.append((request.method, request.url.path))


@asynccontextmanager
async def receiving(token: str = "key", refusals: list[int] | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver; its `url` takes streams."""
    receiver = Receiver(token, refusals or [])
    config = uvicorn.Config(receiver.app(), port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    try:
        async with asyncio.timeout(PATIENCE):
            while not server.started:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        receiver.url = f"http://127.0.0.1:{port}/whip/room"
        yield receiver
    finally:
        await receiver.close()
        server.should_exit = True
        await serving
