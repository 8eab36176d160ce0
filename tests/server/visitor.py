"""A player in a process of its own, at the far end of a network: `python -m tests.server.visitor TASK`, JSON both ways.

It prints a line when it sees the first picture, and its report when it is done.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlencode

from server.protocol import SUBPROTOCOL, Input, Ping, Receipt, Welcome, decode_from_server, encode
from tests.server.rtc_client import RtcClient
from tests.server.running import fetch

REPEATS, REPEAT_AFTER = 3, 0.016  # as the page sends every change
INPUT_EVERY = 0.1  # seconds
PATIENCE = 20.0  # seconds


@dataclass(frozen=True, slots=True)
class Task:
    host: str
    token: str
    address: str  # of this end
    seconds: float
    resume: str = ""
    connects: bool = True  # or leaves its offer half open


@dataclass(slots=True)
class Report:
    """Times are milliseconds of the clock that all processes of this machine share."""

    session: str = ""
    resume: str = ""
    began: float = 0.0  # of the inputs
    ended: float = 0.0
    inputs: dict[int, float] = field(default_factory=dict)  # when each was first sent
    receipts: list[tuple[int, int, float, int]] = field(default_factory=list)  # frame, applied, received, rtp
    frames: list[tuple[float, int]] = field(default_factory=list)  # when each was decoded, its RTP timestamp


def latencies(report: Report) -> list[float]:
    """Action to photon of each input that was answered, in ms: from sending it to having the picture."""
    shown = {rtp: at for at, rtp in reversed(report.frames)}
    answers: dict[int, float] = {}
    for _, applied, _, rtp in report.receipts:
        if rtp in shown:
            answers.setdefault(applied, shown[rtp])
    return [min(later) - sent for seq, sent in report.inputs.items() if (later := _from(answers, seq))]


def arrivals(report: Report) -> dict[int, float]:
    """How long each input took to the server, in ms."""
    received = {applied: at for _, applied, at, _ in reversed(report.receipts)}
    return {seq: received[seq] - sent for seq, sent in report.inputs.items() if seq in received}


def gaps(report: Report) -> list[float]:
    """The times between frames while inputs were sent, in ms; their number is that of the frames."""
    times = [report.began, *(at for at, _ in report.frames if report.began < at < report.ended)]
    return [after - before for before, after in zip(times, times[1:], strict=False)]


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _from(answers: dict[int, float], seq: int) -> list[float]:
    return [at for applied, at in answers.items() if applied >= seq]


async def visit(task: Task) -> Report:
    report = Report()
    async with RtcClient(protocol=SUBPROTOCOL, address=task.address) as client:
        query = urlencode({"resume": task.resume})
        headers = {"Content-Type": "application/sdp", "Authorization": f"Bearer {task.token}"}
        answer = await fetch(task.host, "POST", f"/whep?{query}", body=(await client.offer()).encode(), headers=headers)
        assert answer.status == 201, answer.body
        if task.connects:
            await client.accept(answer.body.decode())
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(_watch(client, report))
                await client.opened(patience=PATIENCE)
                pinging = tasks.create_task(_ping(client))
                await _play(client, report, seconds=task.seconds)
                watching.cancel()
                pinging.cancel()
            _read(client, report)
    return report


async def _play(client: RtcClient, report: Report, *, seconds: float) -> None:
    report.began = _now()
    for seq in range(int(seconds / INPUT_EVERY)):
        report.inputs[seq] = _now()
        message = Input(seq=seq, ts=_now(), keys=["KeyW"] if seq // 3 % 2 else [])
        for _ in range(REPEATS):
            client.input.send(encode(message))
            await asyncio.sleep(REPEAT_AFTER)
        await asyncio.sleep(max(0.0, (report.began + 1000 * INPUT_EVERY * (seq + 1) - _now()) / 1000))
    report.ended = _now()
    await asyncio.sleep(1.0)  # for the last answers


def _read(client: RtcClient, report: Report) -> None:
    for message in map(decode_from_server, client.heard.messages):
        if isinstance(message, Receipt):
            report.receipts.append((message.frame, message.applied_seq, message.t_recv, message.rtp))
        if isinstance(message, Welcome):
            report.session, report.resume = message.session, message.resume
    origin = client.rtp_origin
    report.frames = [(at, (origin + pts) % 2**32) for at, pts in report.frames]


async def _watch(client: RtcClient, report: Report) -> None:
    while True:
        frame = await client.frame(patience=PATIENCE)
        if not report.frames:
            _say({"sees": True})
        report.frames.append((_now(), frame.pts))


async def _ping(client: RtcClient) -> None:
    while True:
        client.events.send(encode(Ping(ts=_now())))
        await asyncio.sleep(1.0)


def _now() -> float:
    return 1000 * time.monotonic()


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _say(asdict(asyncio.run(visit(Task(**json.loads(sys.argv[1]))))))
