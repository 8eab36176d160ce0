"""The wire protocol: what it carries comes out as it went in, and what it does not define is refused, cheaply."""

import math
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.protocol import (
    MAX_MESSAGE_BYTES,
    FromClient,
    FromServer,
    Input,
    Message,
    Ping,
    ProtocolError,
    decode_from_client,
    decode_from_server,
    encode,
)
from tests.server.messages import from_client, from_server, messages

MOST_MEMORY = 2 * MAX_MESSAGE_BYTES  # bytes that refusing any one message may take
PING = {"t": "ping", "ts": 1.0}
OPEN_PING = b"\x83" + msgpack.packb(PING)[1:] + b"\xa1x"  # a ping with one more field, whose value is to follow
INPUT = b"\x83\xa1t\xa5input\xa3seq\x01"  # an input with one more field to follow

brief = settings(max_examples=40)
anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8) | st.integers(0, 9), inner),
    max_leaves=20,
)


def refusal(data: bytes) -> ProtocolError:
    """The error that `data` is refused with; fails if that took much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError) as refused:
            decode_from_client(data)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
    return refused.value


@given(from_client)
def test_what_a_client_says_arrives(message: Message) -> None:
    assert decode_from_client(encode(message)) == message


@given(from_server)
def test_what_the_server_says_arrives(message: Message) -> None:
    assert decode_from_server(encode(message)) == message


@pytest.mark.parametrize("kind", [*FromClient.__args__, *FromServer.__args__])
def test_the_key_t_names_the_message(kind: type[Message]) -> None:
    @brief
    @given(messages(kind))
    def check(message: Message) -> None:
        plain = msgpack.unpackb(encode(message))
        assert plain.pop("t") == kind.__name__.lower()
        assert plain.keys() <= set(kind.__struct_fields__)

    check()


def test_fields_with_defaults_may_be_left_out_and_the_order_is_free() -> None:
    assert decode_from_client(msgpack.packb({"seq": 4, "t": "input"})) == Input(seq=4)
    assert decode_from_client(msgpack.packb({"ts": 2, "later": [{}], "t": "ping"})) == Ping(ts=2.0)


@given(st.binary(max_size=200) | anything.map(msgpack.packb))
def test_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        message = decode_from_client(data)
    except ProtocolError as error:
        assert error.code == "message.malformed"
    else:
        assert isinstance(message, FromClient)


@brief
@given(from_client, st.data())
def test_a_message_cut_short_or_run_on_is_refused(message: Message, data: st.DataObject) -> None:
    whole = encode(message)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert refusal(whole[:cut]).code == refusal(whole + b"\xc0").code == "message.malformed"


@brief
@given(from_client, st.data())
def test_a_field_of_another_type_is_refused(message: Message, data: st.DataObject) -> None:
    plain = msgpack.unpackb(encode(message)) | {"t": type(message).__name__.lower()}
    name = data.draw(st.sampled_from(type(message).__struct_fields__ or ("t",)))
    assert refusal(msgpack.packb(plain | {name: {"no": [{}]}})).code == "message.malformed"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize(
    "fields",
    [
        lambda value: {"t": "ping", "ts": value},
        lambda value: {"t": "input", "seq": 1, "ts": value},
        lambda value: {"t": "input", "seq": 1, "pointer": [0.0, value]},
        lambda value: {"t": "input", "seq": 1, "axes": {"turn": value}},
    ],
)
def test_what_is_no_number_to_reckon_with_is_refused(fields: Any, value: float) -> None:
    decode_from_client(msgpack.packb(fields(0.5)))
    assert refusal(msgpack.packb(fields(value))).code == "message.malformed"


@pytest.mark.parametrize(
    "fields",
    [
        {"t": "input", "seq": -1},
        {"t": "input", "seq": 2**53},
        {"t": "input", "seq": True},
        {"t": "input", "seq": 1.0},
        {"t": "input", "seq": 1, "keys": ["KeyW"] * 17},
        {"t": "input", "seq": 1, "keys": ["K" * 65]},
        {"t": "input", "seq": 1, "presses": {f"Key{i}": 1 for i in range(33)}},
        {"t": "input", "seq": 1, "presses": {"KeyW": -1}},
        {"t": "input", "seq": 1, "pointer": [1.0]},
        {"t": "input", "seq": 1, "axes": {"turn": 1.01}},
        {"t": "hello", "role": "owner"},
        {"t": "hello", "session": "s" * 65},
        {"t": "hello", "token": "t" * 4_097},
        {"t": "hello", "seed": -1},
        {"t": "reset", "image": b"i" * 60_001},
        {"t": "prompt", "text": "p" * 2_001},
        {"t": "prompt"},
        {"t": "welcome"},
        {"t": "nothing"},
        {"ts": 1.0},
        ["ping", 1.0],
    ],
)
def test_what_is_out_of_bounds_is_refused(fields: object) -> None:
    assert refusal(msgpack.packb(fields)).code == "message.malformed"


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES + 1, 10 * MAX_MESSAGE_BYTES])
def test_a_message_that_is_too_large_is_not_even_read(size: int) -> None:
    whole = msgpack.packb({**PING, "pad": b""})
    fitting = msgpack.packb({**PING, "pad": b"x" * (MAX_MESSAGE_BYTES - len(whole) - 1)})
    assert len(fitting) == MAX_MESSAGE_BYTES and decode_from_client(fitting) == Ping(ts=1.0)
    assert refusal(b"\x00" * size).code == "message.size"


@pytest.mark.parametrize("depth", [5_000, 60_000])
@pytest.mark.parametrize("one", [b"\x91", b"\x81\xa0", b"\x81\x90"], ids=["lists", "maps", "keys"])
def test_a_deep_message_is_refused(one: bytes, depth: int) -> None:
    whole = OPEN_PING + one * (depth // len(one)) + b"\xc0"
    assert refusal(whole).code == "message.malformed"


@pytest.mark.parametrize(
    "data",
    [
        OPEN_PING + b"\xdd\xff\xff\xff\xff",
        OPEN_PING + b"\xdf\xff\xff\xff\xff",
        OPEN_PING + b"\xc6\xff\xff\xff\xff",
        INPUT + b"\xa4keys\xdd\x00\xff\xff\xff",
        INPUT + b"\xa7presses\xdf\x00\xff\xff\xff",
        INPUT + b"\xa4keys\xdc\x4e\x20" + b"\xa1a" * 20_000,
        INPUT + b"\xa7presses\xde\x27\x10" + b"".join(b"\xa4%04d\x01" % i for i in range(10_000)),
        b"\x82\xa1t\xa5reset\xa5image\xc6\xff\xff\xff\xff",
        b"\x82\xa1t\xa6prompt\xa4text\xdb\xff\xff\xff\xff",
        b"\x82\xa1t\xa6prompt\xa4text\xa1\xff",
        b"\xdf\xff\xff\xff\xff",
    ],
)
def test_a_message_that_promises_more_than_it_holds_takes_no_memory(data: bytes) -> None:
    assert refusal(data).code == "message.malformed"


def test_many_empty_things_in_an_unknown_field_take_no_memory() -> None:
    data = OPEN_PING + b"\xdc\xea\x60" + b"\x80" * 60_000
    tracemalloc.start()
    try:
        assert decode_from_client(data) == Ping(ts=1.0)
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()
