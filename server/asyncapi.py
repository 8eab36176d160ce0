"""The wire protocol as an AsyncAPI 3.0 document, made from the types that the server decodes with."""

from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec

from . import protocol
from .protocol import MAX_MESSAGE_BYTES, SUBPROTOCOL, Message

CONTENT_TYPE = "application/msgpack"
SCHEMAS = "#/components/schemas/{name}"
ON_WEBSOCKET_ONLY = (protocol.Hello, protocol.Ack, protocol.Frame)
Kinds = tuple[type[Message], ...]

WS_RULES = f"""A WebSocket with the subprotocol `{SUBPROTOCOL}`, one binary message for each message. The client says
`hello` first and is answered by `welcome` or by `error`. It acknowledges the frames it shows. It is closed with 1008
after a refusal, with 1013 if it may come again after `retry_after` seconds, with 1001 after `goaway`, with 1011 after
a failure of the server. An `error` whose code begins with `input.` or `model.` closes nothing."""
RTC_RULES = f"""A WebRTC data channel that the client creates, with the protocol `{SUBPROTOCOL}`. What `hello` says
stands in the query of the offer (`POST /whep`, see `/openapi.json`), the token in its Authorization header. Frames
come as an H.264 track; receipts name them by RTP timestamp."""


@cache
def document() -> dict[str, Any]:
    """The whole document, for `json.dumps`. As AsyncAPI has it, the server is who sends and receives."""
    from_client: Kinds = protocol.FromClient.__args__
    from_server: Kinds = protocol.FromServer.__args__
    reliable = _without(from_client, (*ON_WEBSOCKET_ONLY, protocol.Input))
    channels = {
        "ws": _channel("/ws", WS_RULES, _without((*from_client, *from_server), (protocol.Receipt,)), _upgrade()),
        "events": _channel("events", RTC_RULES, (*reliable, *_without(from_server, ON_WEBSOCKET_ONLY))),
        "input": _channel("input", RTC_RULES + " Unordered, without retransmits.", (protocol.Input,)),
    }
    _, schemas = msgspec.json.schema_components([*from_client, *from_server], ref_template=SCHEMAS)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Rewander", "version": version("rewander"), "description": _rules()},
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": _operations(channels, from_client=from_client, from_server=from_server),
        "components": {
            "messages": {kind.__name__: _message(kind) for kind in (*from_client, *from_server)},
            "schemas": {name: _in_msgpack(schema) for name, schema in sorted(schemas.items())},
        },
    }


def _rules() -> str:
    return f"{protocol.__doc__}\nA message to the server has at most {MAX_MESSAGE_BYTES} bytes."


def _without(kinds: Kinds, left_out: Kinds) -> Kinds:
    return tuple(kind for kind in kinds if kind not in left_out)


def _channel(address: str, rules: str, kinds: Kinds, bindings: dict[str, Any] | None = None) -> dict[str, Any]:
    messages = {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in kinds}
    return {"address": address, "description": rules, "messages": messages, "bindings": bindings or {}}


def _upgrade() -> dict[str, Any]:
    wanted = {"Sec-WebSocket-Protocol": {"type": "string", "const": SUBPROTOCOL}}
    return {"ws": {"method": "GET", "headers": {"type": "object", "properties": wanted, "required": [*wanted]}}}


def _operations(channels: dict[str, Any], *, from_client: Kinds, from_server: Kinds) -> dict[str, Any]:
    """What the server does on each channel."""
    operations = {}
    for name, channel in channels.items():
        for action, kinds in (("receive", from_client), ("send", from_server)):
            spoken = [kind.__name__ for kind in kinds if kind.__name__ in channel["messages"]]
            if spoken:
                operations[f"{action}_{name}"] = {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{name}"},
                    "messages": [{"$ref": f"#/channels/{name}/messages/{kind}"} for kind in spoken],
                }
    return operations


def _message(kind: type[Message]) -> dict[str, Any]:
    return {
        "name": kind.__name__.lower(),
        "title": kind.__name__,
        "summary": kind.__doc__,
        "contentType": CONTENT_TYPE,
        "payload": {"$ref": SCHEMAS.format(name=kind.__name__)},
    }


def _in_msgpack(schema: Any) -> Any:
    """msgspec's schema for JSON as one for msgpack, which has bytes, in the JSON Schema draft 07 of AsyncAPI."""
    if isinstance(schema, list):
        return [_in_msgpack(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _in_msgpack(value) for key, value in schema.items()}
    if schema.pop("contentEncoding", None) == "base64":
        schema["format"] = "binary"  # msgpack's bin
        if "maxLength" in schema:
            schema["maxLength"] = schema["maxLength"] // 4 * 3
    if "prefixItems" in schema:
        schema["items"] = schema.pop("prefixItems")
    return schema
