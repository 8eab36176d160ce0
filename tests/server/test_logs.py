"""Log lines as programs and people read them, with the session that they are about."""

import asyncio
import json
import logging
import sys
from contextvars import copy_context
from io import StringIO
from pathlib import Path

from server.diary import DiaryConfig
from server.engine import EngineConfig
from server.logs import Json, Text, current_session, session_of
from server.serve import ServeConfig
from tests.server.running import running
from tests.server.ws_client import WsClient


def record(message: str, **extra: object) -> logging.LogRecord:
    return logging.getLogger("a.b").makeRecord("a.b", logging.WARNING, "f", 1, message, (3,), None, extra=extra)


def test_json_is_one_object_a_line_with_what_happened_to_whom() -> None:
    said = json.loads(Json().format(record("cut %d\nbytes", session="s1")))
    assert said.pop("time").endswith("+00:00")
    assert said == {"level": "warning", "logger": "a.b", "message": "cut 3\nbytes", "session": "s1"}
    assert "\n" not in Json().format(record("%d\n"))
    assert "session" not in json.loads(Json().format(record("%d")))


def test_a_failure_keeps_its_traceback() -> None:
    try:
        raise MemoryError("no room")
    except MemoryError:
        failed = logging.LogRecord("a", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    assert "MemoryError: no room" in json.loads(Json().format(failed))["exception"]


def test_people_read_the_session_too() -> None:
    assert Text().format(record("cut %d", session="s1")).endswith("WARNING a.b: [s1] cut 3")
    assert Text().format(record("cut %d")).endswith("WARNING a.b: cut 3")


def test_each_task_has_its_own_session() -> None:
    def other() -> str:
        current_session.set("theirs")
        return session_of(record("%d"))

    assert copy_context().run(other) == "theirs"
    assert session_of(record("%d")) == ""
    assert session_of(record("%d", session="mine")) == "mine"


async def test_what_a_server_says_of_a_session_names_it(tmp_path: Path) -> None:
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Json())
    logger = logging.getLogger("server")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    (tmp_path / "file").write_text("no folder")
    try:
        async with running(ServeConfig(engine=EngineConfig(diary=DiaryConfig(folder=tmp_path / "file")))) as server:
            async with WsClient(server.host) as client:
                await client.frames(2)
            await asyncio.sleep(0.1)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    told = {line["message"].partition(":")[0]: line.get("session") for line in lines}
    assert told["a client left"] == told["no longer written down"] == client.welcome.session
