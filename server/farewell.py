"""How a connection ends: the errors that end it, and the last message that each one makes."""

import logging
from collections.abc import Awaitable

from .auth import Refused
from .protocol import Error, Goaway, Message, ProtocolError, is_last

logger = logging.getLogger(__name__)


class Farewell(Exception):
    """The connection ends with this message."""

    def __init__(self, message: Error | Goaway) -> None:
        super().__init__(message)
        self.message = message

    @property
    def code(self) -> str:
        return self.message.code if isinstance(self.message, Error) else "goaway"


class Left(Exception):
    """The client has ended the connection; there is nobody to say anything to."""


ENDS = (Farewell, Refused, ProtocolError)
End = Farewell | Refused | ProtocolError


def check_last(message: Message) -> None:
    """Raise Farewell with a message that the protocol lets a connection end with."""
    if isinstance(message, Error | Goaway) and is_last(message):
        raise Farewell(message)


def last_word(end: End) -> Error | Goaway:
    """What to tell the client."""
    if isinstance(end, Farewell):
        return end.message
    if isinstance(end, ProtocolError):
        return Error(code=end.code, message=str(end))
    return Error(end.code, str(end), retry_after=end.retry_after, place=end.place, waiting=end.waiting)


async def survived(serving: Awaitable[None], failure: str) -> bool:
    """Whether `serving` has come to its end; what it failed at is logged with its traceback, as a `failure`."""
    try:
        await serving
    except Exception:  # noqa: BLE001 - the edge of all connections: one that fails takes no other with it
        logger.exception(failure)
        return False
    return True
