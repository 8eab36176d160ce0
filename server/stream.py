"""An endless stream: one session on autopilot that anyone may watch, and that may go on to an SFU."""

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from model.world_model import WorldModel

from .auth import Refused, check_exposure
from .autopilot import drive, wander
from .handle import Handle, some_seed
from .house import House
from .journal import JournalError, UnknownWorldError
from .link import BusyError
from .logs import current_session, start_logging
from .serve import DrainingServer, ServeConfig, build, load_model
from .whip import publish
from .whip_http import WhipConfig

REOPEN_AFTER = 1.0  # seconds from the end of a session, which only a failure brings, to the next

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """What is shown, and where. Only the stream's own session is played: others would take its time."""

    serve: ServeConfig = ServeConfig()
    session: str = "live"  # by which viewers find it, also after a restart; with a folder for journals it is the same
    seed: int | None = None  # of the world and the walk; drawn by default
    prompt: str = ""
    whip: WhipConfig | None = None  # of an SFU that takes it to more viewers than this server can

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.session):
            raise ValueError(f"expected a session's name of letters, digits, - and _, got {self.session!r}")


def stream(model: str, config: StreamConfig, *, ready: Callable[[str], None]) -> None:
    """Load a model by name and stream it until a signal comes; `ready` is called with the address to watch at."""
    check_exposure(config.serve.host, config.serve.auth)  # before the seconds that the model takes
    start_logging(config.serve.log)
    build_stream(load_model(model), config, ready=ready).run()


def build_stream(model: WorldModel, config: StreamConfig, *, ready: Callable[[str], None]) -> DrainingServer:
    """A server that streams `model`; `run` or `serve` it. Raises ExposedError, and ValueError for an unfit prompt."""
    if config.prompt and not model.spec.accepts_prompt:
        raise ValueError(f"expected no prompt for the model {model.spec.name}, got one")
    serve = replace(config.serve, engine=replace(config.serve.engine, max_sessions=1))
    query = urlencode({"session": config.session, "role": "viewer"})
    opened, listening = asyncio.Event(), asyncio.Queue[str](1)

    async def announce(_: House) -> None:
        address = await listening.get()
        await opened.wait()  # who comes earlier finds no session
        ready(f"{address}?{query}")

    async def show(house: House) -> None:
        await _show(house, config, opened=opened)

    return build(model, serve, ready=listening.put_nowait, residents=[announce, show])


async def _show(house: House, config: StreamConfig, *, opened: asyncio.Event) -> None:
    """Play the session, and play it again when it has ended, until the server leaves; `opened` is set by the first."""
    current_session.set(config.session)
    spec, seed = house.engine.model.spec, some_seed(config.seed)
    vectors = wander(spec.controls, frame_rate=spec.frame_rate, seed=seed)
    while True:
        try:
            handle = await _opened(house, config, seed=seed)
        except BusyError as busy:
            if not house.lobby.is_ready:
                return
            await asyncio.sleep(busy.retry_after)
            continue
        opened.set()
        async with asyncio.TaskGroup() as tasks:
            uplink = tasks.create_task(_publish(house, config)) if config.whip else None
            await drive(handle, spec.controls, vectors, clock=house.clock)
            if uplink is not None:
                uplink.cancel()
        assert handle.ended is not None
        if not house.lobby.is_ready:
            return
        logger.warning("the session ended with %s and begins again", handle.ended.code)
        await asyncio.sleep(REOPEN_AFTER)


async def _opened(house: House, config: StreamConfig, *, seed: int) -> Handle:
    """The session as its journal has it, or else in a new world. Raises BusyError."""
    try:
        return await house.engine.resume(config.session)
    except UnknownWorldError:
        logger.info("a new world")
    except JournalError as error:
        logger.error("a new world, since the old one cannot be used: %s", error)
    return await house.engine.open(prompt=config.prompt, seed=seed, name=config.session)


async def _publish(house: House, config: StreamConfig) -> None:
    assert config.whip is not None
    with suppress(Refused):  # it ended between its opening and this
        await publish(config.session, config.whip, lobby=house.lobby, rtc=house.config.rtc, metrics=house.metrics)
