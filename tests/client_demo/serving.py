"""Servers for the tests of clients, each in a process of its own: `python -m tests.client_demo.serving NAME`."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn

from model.world_model import WorldModel
from server.diary import DiaryConfig
from server.engine import EngineConfig
from server.limits import LimitConfig
from server.lobby import LobbyConfig
from server.rtc import RtcConfig
from server.serve import ServeConfig, build
from server.ws import WsConfig
from tests.client_demo.blink_model import BlinkModel
from tests.client_demo.stock_aiortc import stock_app
from tests.server.tiny_model import TinyModel

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 15.0
ROOMY = ServeConfig(engine=EngineConfig(max_sessions=256), lobby=LobbyConfig(viewers=64))
FULL = ServeConfig(engine=EngineConfig(max_sessions=1, player_grace=0.5))
CROWDED = ServeConfig(
    engine=EngineConfig(max_sessions=32, least_rate=0.01, player_grace=2.0),
    # a machine that is busy for minutes with other things is no reason to throw anyone out
    rtc=RtcConfig(handshake_timeout=600.0, silence_timeout=600.0, viewer_silence_timeout=600.0),
    ws=WsConfig(hello_timeout=600.0, send_timeout=600.0, ack_timeout=600.0, ping_timeout=600.0),
)


@contextmanager
def served(name: str, *, port: int = 0) -> Iterator[str]:
    """Run the server `name` on the loopback until the end of the block; yields its address, with a slash."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.client_demo.serving", name, str(port)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, f"the server {name} did not start"
        try:
            yield address
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def _ours(model: WorldModel, config: ServeConfig, *, port: int) -> None:
    limits = LimitConfig(entries_per_minute=600, per_address=128)  # all tests come from one address
    build(model, replace(config, port=port, limits=limits), ready=_tell).run()


def _crowded(port: int) -> None:
    """Pictures small and slow enough for many sessions on a busy machine, with journals as in earnest."""
    with TemporaryDirectory() as folder:
        engine = replace(CROWDED.engine, diary=DiaryConfig(Path(folder)))
        _ours(BlinkModel(size=64, frame_rate=5.0), replace(CROWDED, engine=engine), port=port)


def _stock(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        _tell(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        uvicorn.Server(uvicorn.Config(stock_app(), log_level="warning")).run(sockets=[listener])


def _tell(address: str) -> None:
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


SERVERS: dict[str, Callable[[int], None]] = {
    "tiny": lambda port: _ours(TinyModel(), ROOMY, port=port),
    "tiny-full": lambda port: _ours(TinyModel(), FULL, port=port),
    "blink": lambda port: _ours(BlinkModel(), ROOMY, port=port),
    "crowded": _crowded,
    "stock": _stock,
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]))
