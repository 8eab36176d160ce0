"""What happens, line by line for a terminal or for what collects JSON, with the session that it happened to."""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

Form = Literal["text", "json"]

current_session: ContextVar[str] = ContextVar("current_session", default="")  # of the connection whose task this is

CHATTY = ("aioice", "aiortc", "uvicorn")


class Text(logging.Formatter):
    """For people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s:%(of)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        session = session_of(record)
        record.of = f" [{session}]" if session else ""
        return super().format(record)


class Json(logging.Formatter):
    """For programs: one object a line, with `session` where there is one and `exception` after a failure."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if session := session_of(record):
            said["session"] = session
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said)


def session_of(record: logging.LogRecord) -> str:
    """That of `extra={"session": ...}`, or else that of the task or thread which logs."""
    session: str = getattr(record, "session", "") or current_session.get()
    return session


def start_logging(form: Form) -> None:
    """Log what happens to sessions, and of the libraries only what goes wrong."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if form == "json" else Text())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
