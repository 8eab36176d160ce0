"""The HTTP half of WHIP (RFC 9725): bring an offer to an endpoint, fetch its answer, delete what it made."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

Result = TypeVar("Result")

SDP = "application/sdp"
MAX_ANSWER_BYTES = 65_536
MAX_REDIRECTS = 3
REDIRECTS = (307, 308)  # those that keep the method


@dataclass(frozen=True, slots=True)
class WhipConfig:
    """Where to publish, and how patiently; times in seconds."""

    url: str
    token: str = ""  # sent as bearer token to the URL's own host only
    certificates: Path | None = None  # PEM file of authorities to trust instead of the system's
    timeout: float = 5.0  # for the endpoint to accept, to answer, and to connect
    first_wait: float = 1.0  # before the second attempt; doubles up to the longest
    longest_wait: float = 30.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected an http or https URL of a WHIP endpoint, got {self.url!r}")
        if not (self.token.isascii() and self.token.isprintable()):
            raise ValueError("expected a token of printable ASCII")


class WhipError(Exception):
    """The endpoint did not take our stream, or lost it. `retry_after` is what it asks for, in seconds."""

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Resource:
    """What an endpoint made of an offer: our stream's own URL, to be deleted, and its answer."""

    url: str
    answer: str


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    headers: Mapping[str, str]
    body: bytes


async def post_offer(config: WhipConfig, offer: str) -> Resource:
    """Raises WhipError. If the wait is cancelled, the endpoint ends by itself what nobody connects to."""
    return await _in_time(config, partial(_post, config, offer))


async def delete(config: WhipConfig, resource: Resource) -> None:
    """End our stream at the endpoint; raises WhipError."""
    await _in_time(config, partial(_delete, config, resource.url))


async def _in_time(config: WhipConfig, exchange: Callable[[], Result]) -> Result:
    try:
        async with asyncio.timeout(config.timeout):
            return await asyncio.to_thread(exchange)
    except (TimeoutError, OSError, HTTPException, ValueError) as error:
        raise WhipError(f"expected an answer from {_shown(config.url)}: {error!r}") from error


def _post(config: WhipConfig, offer: str) -> Resource:
    url = config.url
    for _ in range(1 + MAX_REDIRECTS):
        response = _request(config, "POST", url, offer.encode())
        if response.status not in REDIRECTS:
            return _resource(url, response)
        url = urljoin(url, response.headers.get("location", ""))
    raise WhipError(f"expected at most {MAX_REDIRECTS} redirects from {_shown(config.url)}")


def _resource(url: str, response: _Response) -> Resource:
    location, kind = response.headers.get("location", ""), response.headers.get("content-type", "")
    if response.status != 201:
        seconds = response.headers.get("retry-after", "")
        raise WhipError(
            f"expected 201 from {_shown(url)}, got {response.status}",
            retry_after=float(seconds) if seconds.isdecimal() else 0.0,
        )
    if not location or kind.partition(";")[0].strip().lower() != SDP:
        raise WhipError(f"expected {SDP} and a Location from {_shown(url)}, got {kind!r} and {location!r}")
    return Resource(urljoin(url, location), response.body.decode())


def _delete(config: WhipConfig, url: str) -> None:
    response = _request(config, "DELETE", url, b"")
    if response.status >= 300 and response.status not in (404, 410):  # gone is what we want
        raise WhipError(f"expected {_shown(url)} to be deleted, got {response.status}")


def _request(config: WhipConfig, method: str, url: str, body: bytes) -> _Response:
    parts = urlsplit(url)
    headers = {"Content-Type": SDP} if body else {}
    if config.token and _origin(parts) == _origin(urlsplit(config.url)):
        headers["Authorization"] = f"Bearer {config.token}"
    with closing(_connection(config, parts)) as connection:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        answer = response.read(MAX_ANSWER_BYTES + 1)
        if len(answer) > MAX_ANSWER_BYTES:
            raise WhipError(f"expected at most {MAX_ANSWER_BYTES} bytes from {_shown(url)}, got more")
        named = {name.lower(): value for name, value in response.getheaders()}
        return _Response(response.status, named, answer)


def _connection(config: WhipConfig, parts: SplitResult) -> HTTPConnection:
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise WhipError(f"expected an http or https URL, got {parts.geturl()!r}")
    if parts.scheme == "http":
        return HTTPConnection(parts.hostname, parts.port, timeout=config.timeout)
    trusting = ssl.create_default_context(cafile=config.certificates)
    return HTTPSConnection(parts.hostname, parts.port, timeout=config.timeout, context=trusting)


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port


def _shown(url: str) -> str:
    """A URL for logs: stream keys are often in the path or query, so only its host."""
    return urlsplit(url).hostname or "the endpoint"
