"""Put a server together from a model and a configuration, and run it on its port."""

import logging
import shlex
import threading
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from inspect import signature
from io import BytesIO
from pathlib import Path
from socket import socket

import numpy as np
import uvicorn
from PIL import Image

from model.world_model import WorldModel

from .app import create_app
from .auth import AuthConfig, check_exposure
from .encode import EncodeConfig
from .engine import Engine, EngineConfig
from .house import House, HouseConfig, Resident
from .limits import LimitConfig
from .lobby import LobbyConfig
from .logs import Form, start_logging
from .metrics import Metrics
from .protocol import MAX_MESSAGE_BYTES
from .rtc import RtcConfig
from .tickets import new_ticket_key, ticket_key
from .ws import AbortingWebSocket, WsConfig

MODELS = "rewander.models"  # the entry points' group: each a callable that makes a WorldModel
THUMBNAIL_SIZE = 64  # pixels of the longer side
THUMBNAIL_QUALITY = 70

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """Where to listen, and what of it is public."""

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None  # PEM; with `key` it makes HTTPS
    key: Path | None = None
    auth: AuthConfig = AuthConfig()
    engine: EngineConfig = EngineConfig()
    encode: EncodeConfig = EncodeConfig()
    limits: LimitConfig = LimitConfig()
    lobby: LobbyConfig = LobbyConfig()
    rtc: RtcConfig = RtcConfig()
    ws: WsConfig = WsConfig()
    log: Form = "text"


class UnknownModelError(ValueError):
    """No model of that name."""


class ModelSettingsError(ValueError):
    """Settings that are none, or that the model does not take."""


def load_model(spoken: str) -> WorldModel:
    """Make a model that an installed package offers: its name, and settings for it, as `wan steps=20 quantize=fp8`.

    Takes seconds, or minutes. Raises UnknownModelError, ModelSettingsError, and what the model says of its settings.
    """
    name, settings = parse_model(spoken)
    offered: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=MODELS)}
    if name not in offered:
        raise UnknownModelError(f"expected one of {sorted(offered)}, got {name!r}")
    make: Callable[..., WorldModel] = offered[name].load()
    try:
        signature(make).bind(**settings)
    except TypeError as error:
        raise ModelSettingsError(f"expected settings that {name} takes, got {sorted(settings)}: {error}") from error
    return make(**settings)


def parse_model(spoken: str) -> tuple[str, dict[str, str]]:
    """A model's name and the settings behind it, each NAME=VALUE, quoted as in a shell; raises ModelSettingsError."""
    try:
        name, *words = shlex.split(spoken) or [""]
    except ValueError as error:
        raise ModelSettingsError(f"expected a model and its settings, got {spoken!r}: {error}") from error
    pairs = [word.partition("=") for word in words]
    if wrong := [key + equals for key, equals, _ in pairs if not (equals and key.isidentifier())]:
        raise ModelSettingsError(f"expected settings of {name} like steps=20, got {wrong[0]!r}")
    return name, {key: value for key, _, value in pairs}


class DrainingServer(uvicorn.Server):
    """uvicorn's, which on a signal says goodbye to clients before it hangs up on them."""

    def __init__(self, config: uvicorn.Config, house: House, ready: Callable[[str], None]) -> None:
        """`ready` is called with the address once it listens."""
        super().__init__(config)
        self._house, self._ready = house, ready

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready(self.address)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        await self._house.drain()
        await super().shutdown(sockets)

    @property
    def address(self) -> str:
        """The URL of the page."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        scheme = "https" if self.config.is_ssl else "http"
        return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


def build(
    model: WorldModel, config: ServeConfig, *, ready: Callable[[str], None], residents: Sequence[Resident] = ()
) -> DrainingServer:
    """A server that plays `model`; `run` or `serve` it. Raises ExposedError if anyone on the network could enter.

    `ready` is called with the page's address; `residents` run beside the clients.
    """
    check_exposure(config.host, config.auth)
    metrics = Metrics()
    engine = Engine(model, config.engine, thumbnail=_thumbnail, observe=metrics.observe_stage)
    parts = HouseConfig(
        ticket_key=_ticket_key(config.engine.diary.folder),
        page=Path(str(files("client_demo") / "page")),
        auth=config.auth,
        limits=config.limits,
        lobby=config.lobby,
        ws=config.ws,
        rtc=config.rtc,
        encode=config.encode,
    )
    house = House(engine, config=parts, metrics=metrics, residents=residents)
    return DrainingServer(_uvicorn_config(house, config), house, ready)


def run(model: str, config: ServeConfig, *, ready: Callable[[str], None]) -> None:
    """Load a model by name and serve it until a signal comes. `ready` is called with the page's address."""
    check_exposure(config.host, config.auth)  # before the seconds that the model takes
    start_logging(config.log)
    build(load_model(model), config, ready=ready).run()


def show_page(address: str) -> None:
    """Open the page in the user's browser, where there is one with windows. Returns at once."""

    def show() -> None:
        with suppress(webbrowser.Error):
            browser = webbrowser.get()
            if type(browser) is not webbrowser.GenericBrowser:  # those take the terminal
                browser.open(address)

    threading.Thread(target=show, daemon=True).start()


def _uvicorn_config(house: House, config: ServeConfig) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(house),
        host=config.host,
        port=config.port,
        ws=AbortingWebSocket,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # pictures are compressed already: it costs ten times the latency
        ws_ping_interval=config.ws.ping_timeout,
        ws_ping_timeout=config.ws.ping_timeout,
        limit_concurrency=config.limits.connections + 64,  # room for health checks beside the players
        h11_max_incomplete_event_size=16_384,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,  # clients were told before
        proxy_headers=False,  # addresses count against limits, so nobody may state his own
        server_header=False,
        access_log=False,
        log_config=None,
        ssl_certfile=config.certificate,
        ssl_keyfile=config.key,
    )


def _ticket_key(folder: Path | None) -> bytes:
    try:
        return ticket_key(folder)
    except OSError as error:  # as with journals: a folder that cannot be written never stops the game
        logger.error("resume tokens will not outlive this server: %s", error)
        return new_ticket_key()


def _thumbnail(frame: np.ndarray) -> bytes:
    """A memory's picture for the page: JPEG, small, since several travel with every recall."""
    image = Image.fromarray(frame)
    image.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()
