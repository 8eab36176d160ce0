"""The HTTP half of WHIP against a real endpoint: offers, redirects, tokens, refusals, deletion."""

import asyncio
from dataclasses import replace
from socket import create_server

import pytest

from server.whip_http import Resource, WhipConfig, WhipError, delete, post_offer
from tests.server.rtc_client import RtcClient
from tests.server.whip_receiver import receiving


async def offer() -> str:
    async with RtcClient(channels=False) as client:
        return (await client.offer()).replace("a=recvonly", "a=sendonly")


async def test_an_offer_is_answered_and_what_came_of_it_deleted() -> None:
    async with receiving() as receiver:
        config = WhipConfig(receiver.url, token="key")
        made = await post_offer(config, await offer())
        assert made.answer.startswith("v=0") and made.url == receiver.url.replace("/whip/room", "/stream/0")
        await delete(config, made)
        assert receiver.deleted == ["/stream/0"]


async def test_redirects_are_followed_and_not_for_ever() -> None:
    async with receiving() as receiver:
        moved = WhipConfig(receiver.url.replace("/whip/room", "/moved?key=1"), token="key")
        made = await post_offer(moved, await offer())
        assert made.url.endswith("/stream/0")
        assert receiver.seen == [("POST", "/moved"), ("POST", "/whip/room")]
        with pytest.raises(WhipError, match="at most 3 redirects"):
            await post_offer(replace(moved, url=moved.url.replace("/moved", "/loop")), "v=0")
        assert len(receiver.seen) == 6


async def test_a_token_stays_with_the_host_it_is_for() -> None:
    async with receiving() as receiver, receiving(token="") as other:
        config = WhipConfig(other.url, token="secret")
        with pytest.raises(WhipError, match="got 401"):  # the bearer of an empty token would be let in
            await delete(config, Resource(receiver.url.replace("/whip/room", "/stream/0"), ""))


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
async def test_a_refusal_says_which(status: int) -> None:
    async with receiving(refusals=[status]) as receiver:
        with pytest.raises(WhipError, match=f"expected 201 from 127.0.0.1, got {status}"):
            await post_offer(WhipConfig(receiver.url), "v=0")


async def test_an_endpoint_that_is_not_there_or_says_nothing_is_given_up() -> None:
    with create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/whip"
        began = asyncio.get_running_loop().time()
        with pytest.raises(WhipError, match="expected an answer from 127.0.0.1"):
            await post_offer(WhipConfig(url, timeout=0.2), "v=0")
        assert asyncio.get_running_loop().time() - began < 4.0
    with pytest.raises(WhipError, match="expected an answer from 127.0.0.1"):
        await post_offer(WhipConfig(url), "v=0")


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 201 Created\r\nContent-Type: application/sdp\r\nContent-Length: 3\r\n\r\nv=0",
        b"HTTP/1.1 201 Created\r\nLocation: /x\r\nContent-Length: 3\r\n\r\nv=0",
        b"HTTP/1.1 201 Created\r\nLocation: /x\r\nContent-Type: application/sdp\r\n\r\n" + b"a" * 70_000,
        b"HTTP/1.1 307 Moved\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nLocation: /x\r\nContent-Type: application/sdp\r\nContent-Length: 1\r\n\r\n\xff",
        b"nonsense\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_an_error(reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"v=0")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(WhipError, match="expected"):
            await post_offer(WhipConfig(f"http://127.0.0.1:{port}/", timeout=2.0), "v=0")


@pytest.mark.parametrize(("url", "token"), [("ftp://host/x", ""), ("whip", ""), ("http://host", "two\r\nlines")])
def test_what_cannot_be_an_endpoint_is_refused(url: str, token: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        WhipConfig(url, token=token)
