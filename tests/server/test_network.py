"""Bad networks between two namespaces: inputs arrive, the stream adapts, who vanishes is noticed and comes back."""

import asyncio
import json
import logging
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from model.world_model import Section
from server.auth import AuthConfig
from server.encode import EncodeConfig
from server.rtc import RtcConfig
from server.serve import ServeConfig, build
from tests.client_demo.blink_model import BlinkModel, BlinkState
from tests.server.impaired_link import FAR, NEAR, Impairment, Link, LinkError, linked
from tests.server.running import Running, served
from tests.server.visitor import Report, Task, arrivals, gaps, latencies, percentile

logger = logging.getLogger("figures")  # seen with `-o log_cli=true`
pytestmark = pytest.mark.network

SIZE, FPS, TOKEN = 256, 30.0, "sesame"
PATIENCE = 40.0  # seconds


class NoisyModel(BlinkModel):
    """Pictures that no encoder can predict, so that a bit rate is needed."""

    def __init__(self) -> None:
        super().__init__(size=SIZE, frame_rate=FPS)
        self._noise = np.random.default_rng(0).normal(0, 10, (8, SIZE, SIZE, 1)).astype(np.float32)

    def decode(self, states: Sequence[BlinkState], sections: Sequence[Section]) -> list[np.ndarray]:
        frames = super().decode(states, sections)
        noise = [self._noise[state.num_frames % 8] for state in states]
        return [(frame + n).clip(0, 255).astype(np.uint8) for frame, n in zip(frames, noise, strict=True)]


@asynccontextmanager
async def far_away(impairment: Impairment) -> AsyncIterator[tuple[Running, Link]]:
    """A server at the near end of a bad network."""
    config = ServeConfig(
        host=NEAR,
        port=0,
        auth=AuthConfig(token=TOKEN),
        encode=EncodeConfig(bit_rate=4_000_000, upscale=1),
        rtc=RtcConfig(addresses=(NEAR,)),
    )
    try:
        with linked(impairment) as link:
            async with served(lambda ready: build(NoisyModel(), config, ready=ready)) as server:
                yield server, link
    except LinkError as error:
        pytest.skip(f"no bad network here: {error}")


class Visit:
    """A visitor at the far end."""

    def __init__(self, link: Link, server: Running, *, seconds: float, **options: Any) -> None:
        task = Task(server.host, TOKEN, FAR, seconds, **options)
        self.process: subprocess.Popen[str] = link.start_far("-m", "tests.server.visitor", json.dumps(asdict(task)))

    async def sees(self) -> None:
        assert await self._line() == {"sees": True}

    async def report(self) -> Report:
        said = await self._line()
        await asyncio.to_thread(self.process.wait)
        said["inputs"] = {int(seq): at for seq, at in said["inputs"].items()}
        return Report(**said)

    async def _line(self) -> Any:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            return json.loads(await asyncio.to_thread(self.process.stdout.readline))

    async def __aenter__(self) -> "Visit":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.kill()
        await asyncio.to_thread(self.process.wait)
        assert self.process.stdout is not None
        self.process.stdout.close()


async def happens(what: Any, *, within: float) -> float:
    """Wait for something; how long it took, in seconds."""
    began = time.monotonic()
    while not what():  # noqa: ASYNC110
        assert time.monotonic() - began < within, f"expected it within {within} s"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def test_at_5_percent_loss_every_input_arrives_in_time() -> None:
    async with far_away(Impairment(delay=0.02, loss=0.05)) as (server, link):
        async with Visit(link, server, seconds=10.0) as visit:
            await visit.sees()
            report = await visit.report()
    took = arrivals(report)
    fps = 1000 * len(gaps(report)) / (report.ended - report.began)
    p50, p95 = percentile(list(took.values()), 0.5), percentile(list(took.values()), 0.95)
    logger.warning(f"{len(took)}/{len(report.inputs)} inputs, p50 {p50:.0f} p95 {p95:.0f} ms, {fps:.1f} fps")
    assert took.keys() == report.inputs.keys()
    assert 20.0 <= p50 and p95 < 60.0
    assert fps >= 18.0


async def test_a_bottleneck_of_2_mbit_is_adapted_to() -> None:
    async with far_away(Impairment(delay=0.02, rate=2e6)) as (server, link):
        sent = server.house.metrics.sent_bytes.labels("rtc")._value
        async with Visit(link, server, seconds=14.0) as visit:
            await visit.sees()
            await asyncio.sleep(7.0)
            before, began = sent.get(), time.monotonic()
            await asyncio.sleep(5.0)
            rate = 8e-6 * (sent.get() - before) / (time.monotonic() - began)
            report = await visit.report()
    took = latencies(report)
    late = [at for at, _ in report.frames if at > report.frames[-1][0] - 5_000]
    p50, p95 = percentile(took, 0.5), percentile(took, 0.95)
    logger.warning(f"a2p p50 {p50:.0f} p95 {p95:.0f} ms, {rate:.2f} Mbit/s, {len(late) / 5:.1f} fps at last")
    assert p50 <= 200.0
    assert 0.3 < rate < 2.0
    assert len(late) > 5 * 10


async def test_a_vanished_peer_is_noticed_and_comes_back_to_the_same_world() -> None:
    async with far_away(Impairment(delay=0.02)) as (server, link):
        async with Visit(link, server, seconds=2.0) as visit:
            await visit.sees()
            first = await visit.report()
        async with Visit(link, server, seconds=60.0, resume=first.resume) as visit:
            await visit.sees()
            (handle,) = server.house.engine.handles
            link.cut()
            noticed = await happens(lambda: not server.house.peers._peers, within=5.0)
        link.mend()
        await asyncio.sleep(0.3)
        stopped = handle._line.link.feed.newest.index
        async with Visit(link, server, seconds=2.0, resume=first.resume) as visit:
            await visit.sees()
            again = await visit.report()
        logger.warning(f"noticed after {noticed:.2f} s, frame {stopped} then {again.receipts[0][0]}")
        assert again.session == first.session == handle.id
        assert again.receipts[0][0] == stopped
        assert server.house.engine.handles == [handle]


async def test_half_open_offers_are_gone_in_15_seconds() -> None:
    async with far_away(Impairment(delay=0.02)) as (server, link):
        visits = [Visit(link, server, seconds=0.0, connects=False) for _ in range(3)]
        for visit in visits:
            async with visit:
                await visit.report()
        assert len(server.house.peers._peers) == 3
        gone = await happens(lambda: not server.house.peers._peers, within=15.0)
        logger.warning(f"gone after {gone:.1f} s")
        assert server.house.lobby._places == {}
