"""A whole server on 127.0.0.1 and a port of its own, in the test's event loop, playing the tiny model."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from server.feed import Produced
from server.serve import DrainingServer, ServeConfig, build
from tests.server.tiny_model import TinyModel

PATIENCE = 60.0  # seconds: of a machine that is busy with other things

logging.getLogger("aioice").setLevel(logging.WARNING)


@dataclass
class Running:
    """`host` is 127.0.0.1:port."""

    server: DrainingServer
    host: str

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    @property
    def house(self) -> Any:
        return self.server._house


@dataclass(frozen=True)
class Answer:
    """Of an HTTP request; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    links: tuple[str, ...] = ()  # the Link headers, of which there may be several


async def fetch(
    host: str, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """One request over a connection of its own."""

    def request() -> Answer:
        connection = HTTPConnection(host, timeout=PATIENCE)
        with closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            named = {k.lower(): v for k, v in response.getheaders()}
            links = tuple(response.headers.get_all("link", ()))
            return Answer(response.status, named, response.read(), links)

    return await asyncio.to_thread(request)


async def until(happened: Callable[[], object]) -> None:
    """Wait for something that nothing tells of."""
    async with asyncio.timeout(PATIENCE):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def stopped_at(server: Running) -> Produced:
    """The frame at which the only session of a server rests, once all its clients have left."""
    await until(lambda: not server.house.lobby._places)
    (handle,) = server.house.engine.handles
    await asyncio.sleep(0.1)  # the section in flight
    feed = handle._line.link.feed
    before = feed.newest
    await asyncio.sleep(0.1)
    assert before is not None and feed.newest is before
    return before


@asynccontextmanager
async def running(config: ServeConfig = ServeConfig(), *, sockets: list[Any] | None = None) -> AsyncIterator[Running]:  # noqa: B008
    def make(ready: Callable[[str], None]) -> DrainingServer:
        return build(TinyModel(), replace(config, port=0), ready=ready)

    async with served(make, sockets=sockets) as server:
        yield server


@asynccontextmanager
async def served(
    make: Callable[[Callable[[str], None]], DrainingServer], *, sockets: list[Any] | None = None
) -> AsyncIterator[Running]:
    """Run the server that `make` makes of a function to be told its address."""
    ready = asyncio.get_running_loop().create_future()
    server = make(ready.set_result)
    serving = asyncio.ensure_future(server.serve(sockets))
    try:
        await asyncio.wait([ready, serving], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        yield Running(server, urlsplit(await ready).netloc)
    finally:
        server.should_exit = True
        await serving
