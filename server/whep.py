"""WebRTC by HTTP (WHEP, draft-ietf-wish-whep): offers become peers, which have a name to be deleted by."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack

from .auth import Grant, Refused
from .lobby import Lobby
from .metrics import Metrics
from .offer import OfferError, clean_offer
from .protocol import Hello
from .rtc import Peer, RtcConfig
from .seat import Seat


class Peers:
    """All WebRTC connections of a server. `tasks` runs them."""

    def __init__(
        self, lobby: Lobby, *, config: RtcConfig, clock: Callable[[], float], metrics: Metrics, tasks: asyncio.TaskGroup
    ) -> None:
        self._lobby, self._config, self._clock, self._metrics, self._tasks = lobby, config, clock, metrics, tasks
        self._peers: dict[str, Peer] = {}

    async def open(self, offer: bytes, hello: Hello, allowed: Grant, *, stay: ExitStack) -> tuple[str, str]:
        """Answer an offer: the peer's name and the SDP. Raises Refused. `stay` is emptied: it ends with the peer."""
        if sum(not peer.has_connected for peer in self._peers.values()) >= self._config.max_handshakes:
            raise Refused("limit.handshakes", "too many connections are being made", status=503, retry_after=1.0)
        sdp = _cleaned(offer)  # first, so that a bad offer opens no session
        seat = await self._lobby.enter(hello, allowed)
        peer = Peer(seat, config=self._config, clock=self._clock, metrics=self._metrics)
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._lobby.leave, seat, unused=True)
            undo.push_async_callback(peer.close)
            answer = await peer.answer(sdp)
            undo.pop_all()
        name = secrets.token_urlsafe(18)
        self._peers[name] = peer
        self._tasks.create_task(self._run(name, seat, stay.pop_all()))
        return name, answer

    def close(self, name: str) -> None:
        """The client has left; raises Refused if there is no such peer (any more)."""
        if name not in self._peers:
            raise Refused("whep.unknown", "expected a connection that lives", status=404)
        self._peers[name].leave()

    def close_all(self, *, connected: bool) -> None:
        """End those that have no connection yet, who could not be told, and with `connected` the others too."""
        for peer in self._peers.values():
            if connected or not peer.has_connected:
                peer.leave()

    async def _run(self, name: str, seat: Seat, stay: ExitStack) -> None:
        peer = self._peers[name]
        with stay, self._metrics.connections.labels("rtc", seat.role).track_inprogress():
            try:
                await peer.run()
            finally:
                del self._peers[name]
                await self._lobby.leave(seat, unused=not peer.has_connected)


def _cleaned(offer: bytes) -> str:
    try:
        return clean_offer(offer)
    except OfferError as error:
        raise Refused("offer.malformed", str(error), status=400) from error
