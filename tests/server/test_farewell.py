"""What ends a connection, and what is said then."""

import pytest

from server.auth import Refused
from server.farewell import Farewell, check_last, last_word
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
