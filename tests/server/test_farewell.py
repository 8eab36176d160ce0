"""What ends a connection, and what is said then."""

import asyncio

import pytest

from server.auth import Refused
from server.farewell import Farewell, check_last, last_word, survived
from server.protocol import Error, Goaway, Pong, ProtocolError


def test_errors_and_goodbyes_are_last_and_the_rest_is_not() -> None:
    for message in (Error(code="session.ended", message=""), Goaway(resume="", retry_after=1.0)):
        with pytest.raises(Farewell) as farewell:
            check_last(message)
        assert last_word(farewell.value) is message
    for code in ("input.image", "model.failed"):
        check_last(Error(code=code, message=""))
    check_last(Pong(ts=1.0))


def test_each_end_has_its_word() -> None:
    assert last_word(ProtocolError("message.size", "large")) == Error(code="message.size", message="large")
    refused = Refused("limit.x", "later", status=429, retry_after=3.0)
    assert last_word(refused) == Error(code="limit.x", message="later", retry_after=3.0)
    assert Farewell(Goaway(resume="", retry_after=1.0)).code == "goaway"


async def test_a_failure_is_logged_with_its_traceback_and_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("no such frame")

    assert await survived(asyncio.sleep(0), "a connection failed")
    assert not caplog.records
    assert not await survived(fail(), "a connection failed")
    assert "a connection failed" in caplog.text
    assert "RuntimeError: no such frame" in caplog.text


async def test_who_is_cancelled_has_not_failed(caplog: pytest.LogCaptureFixture) -> None:
    serving = asyncio.create_task(survived(asyncio.sleep(60), "a connection failed"))
    await asyncio.sleep(0)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not caplog.records
