"""Holds what clients send to the AsyncAPI document that the server publishes, and to nothing else."""

from functools import cache
from typing import Any

import msgpack
from jsonschema import Draft7Validator

from server.asyncapi import document


def check(data: bytes) -> None:
    """Raise unless `data` is a message that the document lets a client send."""
    message = msgpack.unpackb(data)
    _validators()[message["t"]].validate(as_text(message))


@cache
def _validators() -> dict[str, Draft7Validator]:
    whole = document()
    received = [one for one in whole["operations"].values() if one["action"] == "receive"]
    names = {reference["$ref"].rpartition("/")[2] for operation in received for reference in operation["messages"]}
    messages = {whole["components"]["messages"][name]["name"]: name for name in names}
    return {
        tag: Draft7Validator({"components": whole["components"], "$ref": f"#/components/schemas/{name}"})
        for tag, name in messages.items()
    }


def as_text(plain: Any) -> Any:
    """JSON Schema knows no bytes: they are strings of the format `binary` to it."""
    if isinstance(plain, bytes):
        return plain.decode("latin-1")
    if isinstance(plain, dict):
        return {key: as_text(value) for key, value in plain.items()}
    return [as_text(one) for one in plain] if isinstance(plain, list) else plain
