"""The contract that clients are held to refuses what the server would."""

import msgpack
import pytest
from jsonschema import ValidationError

from server.protocol import Hello, Input, Latency, encode
from tests.client_demo.contract import check


def test_what_clients_may_send_passes_and_other_things_do_not() -> None:
    for message in (Hello(seed=3, waiting="w"), Input(seq=1, keys=["KeyW"]), Latency(action_to_photon=[1.5])):
        check(encode(message))
    with pytest.raises(ValidationError):
        check(msgpack.packb({"t": "input", "seq": -1}))
    with pytest.raises(ValidationError):
        check(msgpack.packb({"t": "latency", "action_to_photon": [1.0] * 65}))
    with pytest.raises(KeyError):
        check(msgpack.packb({"t": "welcome"}))  # only the server says so
