"""Atheris on one decoder, in a process of its own: `python -m tests.server.fuzz_decoders NAME [libFuzzer's flags]`."""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import atheris

with atheris.instrument_imports(include=["server"]):
    from server.auth import AuthConfig, Refused, grant
    from server.offer import OfferError, clean_offer
    from server.protocol import ProtocolError, decode_from_client
    from server.tickets import Tickets
    from server.upload import read_image

SIGNED = AuthConfig(jwt_secret="s" * 32)
TICKETS = Tickets(b"k" * 32)


def tokens(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for read in (partial(grant, config=SIGNED), TICKETS.read):
        with suppress(Refused):
            read(text)


DECODERS: dict[str, tuple[Callable[[bytes], object], type[Exception]]] = {
    "message": (decode_from_client, ProtocolError),
    "offer": (clean_offer, OfferError),
    "image": (read_image, ProtocolError),
    "tokens": (tokens, Refused),
}

if __name__ == "__main__":
    decode, refusal = DECODERS[sys.argv.pop(1)]

    def check(data: bytes) -> None:
        with suppress(refusal):
            decode(data)

    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
