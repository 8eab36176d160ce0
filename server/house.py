"""One server's parts and how they live: put together when the event loop starts, drained when it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .auth import AuthConfig
from .broadcast import Air
from .encode import EncodeConfig
from .engine import Engine
from .limits import Doorkeeper, LimitConfig
from .lobby import Lobby, LobbyConfig
from .metrics import Metrics, watch_loop
from .rtc import RtcConfig
from .tickets import Tickets
from .tidy import tidy, trim_heap
from .whep import Peers
from .ws import WsConfig

DRAIN_SECONDS = 2.0  # for clients to take their goodbye


@dataclass(frozen=True, slots=True)
class HouseConfig:
    """All that the edges can be told."""

    ticket_key: bytes
    page: Path | None = None  # folder of the page's files
    auth: AuthConfig = AuthConfig()
    limits: LimitConfig = LimitConfig()
    lobby: LobbyConfig = LobbyConfig()
    ws: WsConfig = WsConfig()
    rtc: RtcConfig = RtcConfig()
    encode: EncodeConfig = EncodeConfig()


Resident = Callable[["House"], Coroutine[None, None, None]]


class House:
    """What the routes use. `lobby` and `peers` are there while it lives."""

    lobby: Lobby
    peers: Peers

    def __init__(
        self, engine: Engine, *, config: HouseConfig, metrics: Metrics, residents: Sequence[Resident] = ()
    ) -> None:
        """`engine` is not started yet; `metrics` may be in use already; `residents` run while the house lives."""
        self.engine, self.config, self.metrics = engine, config, metrics
        self._residents = residents
        self.clock = engine.clock
        self.door = Doorkeeper(config.limits, engine.clock)

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """Run the engine, the encoder and all tasks of connections; leave in order, even after an error."""
        config, clock, metrics = self.config, self.clock, self.metrics
        with ThreadPoolExecutor(1, thread_name_prefix="encode") as executor:
            async with asyncio.TaskGroup() as tasks:
                air = Air(self.engine.model.spec, config.encode, executor, clock, metrics)
                tickets = Tickets(config.ticket_key)
                self.lobby = Lobby(self.engine, air=air, tickets=tickets, config=config.lobby, tasks=tasks)
                self.peers = Peers(self.lobby, config=config.rtc, clock=clock, metrics=metrics, tasks=tasks)
                self.engine.start()
                tidying = tidy(lambda: (self.lobby.num_left, len(self.engine.handles)), trim=trim_heap)
                staff = [watch_loop(metrics), tidying, *(resident(self) for resident in self._residents)]
                working = [tasks.create_task(work) for work in staff]
                try:
                    yield
                finally:
                    self.lobby.close()
                    self.peers.close_all(connected=True)
                    await self.engine.stop(drain=True)
                    for task in working:
                        task.cancel()

    async def drain(self) -> None:
        """Let nobody in, tell all how to come back, and wait a little for them to go. Next: end `live`."""
        self.lobby.close()
        self.peers.close_all(connected=False)
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.lobby.wait_until_empty()

    def render_metrics(self) -> bytes:
        stats, metrics = self.engine.stats(), self.metrics
        metrics.sessions.set(stats.sessions)
        metrics.batch_size.set(stats.batch_size)
        if self.engine.config.diary.folder is not None:
            metrics.unwritten.set(sum(bool(handle.stats().journal_problem) for handle in self.engine.handles))
        metrics.tasks.set(len(asyncio.all_tasks()))
        metrics.waiting.set(self.lobby.num_waiting)
        metrics.memory_entries.set(sum(handle.num_memories for handle in self.engine.handles))
        return metrics.render()
