"""Tickets by which a player comes back to its session, also after the server was restarted."""

import base64
import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from .auth import Refused

KEY_BYTES = 32
STUB_BYTES = 24  # of the HMAC, as base64url after the session's id and a dot


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket says: to play `session`, as the one whom the controls were handed to at the `handovers`th time."""

    session: str
    handovers: int = 0


class Tickets:
    """A ticket is signed, so that nobody makes one from a session's id, which viewers know."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        self._key = key

    def issue(self, ticket: Ticket) -> str:
        said = f"{ticket.session}~{ticket.handovers}" if ticket.handovers else ticket.session
        return f"{said}.{self._sign(said)}"

    def read(self, text: str) -> Ticket:
        """What a ticket of ours says; raises Refused for others."""
        said, _, signature = text.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(said).encode()):
            raise Refused("session.ticket", "expected a resume token of this server, got another", status=403)
        session, _, handovers = said.partition("~")
        return Ticket(session, int(handovers or 0))

    def _sign(self, said: str) -> str:
        digest = hmac.digest(self._key, said.encode(), sha256)
        return base64.urlsafe_b64encode(digest[:STUB_BYTES]).decode()


def new_ticket_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def ticket_key(folder: Path | None) -> bytes:
    """The key kept beside the saved worlds, made when there is none; without a folder one for this run only."""
    if folder is None:
        return new_ticket_key()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tickets.key"
    with suppress(FileExistsError), open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(new_ticket_key())
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(f"expected {KEY_BYTES} bytes in {path}, got {len(key)}: delete it, and old resume tokens end")
    return key
