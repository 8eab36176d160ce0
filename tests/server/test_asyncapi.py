"""The AsyncAPI document: whole, true to the types, and the same whoever asks."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from jsonschema import Draft7Validator, FormatChecker

from server.asyncapi import document
from server.protocol import SUBPROTOCOL, FromClient, FromServer, Message, encode
from tests.client_demo.contract import as_text
from tests.server.messages import messages
from tests.server.running import fetch, running

FROM_CLIENT = [kind.__name__ for kind in FromClient.__args__]
FROM_SERVER = [kind.__name__ for kind in FromServer.__args__]
CHANNEL_FIELDS = {"address", "description", "messages", "bindings"}


def looked_up(reference: str) -> Any:
    found: Any = document()
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for one in part:
            yield from references(one)


def spoken(action: str) -> dict[str, list[str]]:
    """The messages that the server sends or receives, by channel."""
    operations = [one for one in document()["operations"].values() if one["action"] == action]
    return {
        one["channel"]["$ref"].removeprefix("#/channels/"): [ref["$ref"].split("/")[-1] for ref in one["messages"]]
        for one in operations
    }


async def test_it_is_served() -> None:
    async with running() as server:
        answer = await fetch(server.host, "GET", "/asyncapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(answer.body) == json.loads(json.dumps(document()))


def test_it_has_the_parts_of_asyncapi_3_and_every_reference_leads_somewhere() -> None:
    whole = document()
    assert whole["asyncapi"] == "3.0.0" and {"title", "version"} <= whole["info"].keys()
    assert whole.keys() <= {"asyncapi", "info", "defaultContentType", "channels", "operations", "components"}
    for channel in whole["channels"].values():
        assert channel.keys() == CHANNEL_FIELDS and channel["messages"]
    for operation in whole["operations"].values():
        assert operation.keys() == {"action", "channel", "messages"}
        assert operation["action"] in ("send", "receive")
        of_channel = operation["channel"]["$ref"] + "/messages/"
        assert all(message["$ref"].startswith(of_channel) for message in operation["messages"])
    found = list(references(whole))
    assert found and all(isinstance(looked_up(reference), dict) for reference in found)
    for schema in whole["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


def test_every_message_travels_in_its_direction_on_its_channels() -> None:
    assert set(document()["components"]["messages"]) == {*FROM_CLIENT, *FROM_SERVER}
    assert spoken("receive")["ws"] == FROM_CLIENT
    assert spoken("send")["ws"] == [name for name in FROM_SERVER if name != "Receipt"]
    assert spoken("receive")["input"] == ["Input"]
    assert spoken("receive")["events"] == [name for name in FROM_CLIENT if name not in ("Hello", "Ack", "Input")]
    assert spoken("send")["events"] == [name for name in FROM_SERVER if name != "Frame"]
    headers = document()["channels"]["ws"]["bindings"]["ws"]["headers"]
    assert headers["properties"]["Sec-WebSocket-Protocol"]["const"] == SUBPROTOCOL


@pytest.mark.parametrize("kind", [*FromClient.__args__, *FromServer.__args__])
def test_what_the_types_encode_the_schema_accepts(kind: type[Message]) -> None:
    described = document()["components"]["messages"][kind.__name__]
    assert described["summary"] and described["name"] == kind.__name__.lower()
    validator = Draft7Validator({"components": document()["components"], **described["payload"]})

    @settings(max_examples=25)
    @given(messages(kind))
    def check(message: Message) -> None:
        plain = msgpack.unpackb(encode(message))
        validator.validate(as_text(plain))
        assert not validator.is_valid(as_text(plain) | {"t": "another"})

    check()


def test_out_of_bounds_is_so_in_the_document_too() -> None:
    payload = document()["components"]["messages"]["Input"]["payload"]
    validator = Draft7Validator({"components": document()["components"], **payload}, format_checker=FormatChecker())
    assert validator.is_valid({"t": "input", "seq": 1, "pointer": [1.0, 2.0], "axes": {"turn": -1.0}})
    for fields in ({"seq": -1}, {}, {"seq": 1, "pointer": [1.0]}, {"seq": 1, "axes": {"turn": 2.0}}):
        assert not validator.is_valid({"t": "input", **fields})
    assert document()["components"]["schemas"]["Reset"]["properties"]["image"]["maxLength"] == 60_000


def test_another_process_makes_the_same_bytes() -> None:
    show = "import json, server.asyncapi as a; print(json.dumps(a.document()))"
    told = [
        subprocess.run([sys.executable, "-c", show], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True)
        for seed in ("1", "2")
    ]
    assert told[0].stdout == told[1].stdout == json.dumps(document()).encode() + b"\n"
