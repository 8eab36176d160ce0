"""What the server counts and times, for Prometheus."""

import asyncio
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

STAGE_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
RATE_BUCKETS = tuple(1e5 * 2**i for i in range(9))
LAG_EVERY = 0.5  # seconds


class Metrics:
    """One server's figures in a registry of their own, so that two servers in one process stay apart.

    Labels take values of ours only (codes, roles, codecs, transports): no client can make new series.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def stage(name: str, what: str) -> Histogram:
            return Histogram(f"rewander_{name}_seconds", what, buckets=STAGE_BUCKETS, registry=registry)

        self.tick_wait = stage("tick_wait", "From receiving an input to binding it to a frame.")
        self.generate = stage("generate", "From binding a frame's control to having the frame.")
        self.encode = stage("encode", "From having a frame to having its pictures, the encoder's queue included.")
        self.fan_out = stage("fan_out", "From having a picture to handing it to one watcher's transport.")
        self.action_to_photon = stage("action_to_photon", "From an input to its picture, as clients report it.")
        self.loop_lag = Histogram(
            "rewander_loop_lag_seconds", "How late the event loop wakes.", buckets=LAG_BUCKETS, registry=registry
        )
        self.estimate = Histogram(
            "rewander_remb_bits_per_second",
            "What players' receivers estimate.",
            buckets=RATE_BUCKETS,
            registry=registry,
        )
        self.bit_rate = Histogram(
            "rewander_bit_rate_bits_per_second", "Set for a session's video.", buckets=RATE_BUCKETS, registry=registry
        )
        self.frames = Counter("rewander_frames", "Frames that were encoded for someone.", registry=registry)
        self.key_frames = Counter("rewander_key_frames", "H.264 key frames made.", registry=registry)
        self.dropped = Counter(
            "rewander_dropped", "Pictures that a late watcher lost.", ["role", "codec"], registry=registry
        )
        self.sent_bytes = Counter("rewander_sent_bytes", "Picture bytes handed out.", ["transport"], registry=registry)
        self.refusals = Counter("rewander_refusals", "Connections turned away or ended.", ["code"], registry=registry)
        self.sessions = Gauge("rewander_sessions", "Sessions that live.", registry=registry)
        self.waiting = Gauge("rewander_waiting", "Players in the queue for a session.", registry=registry)
        self.connections = Gauge("rewander_connections", "Open connections.", ["transport", "role"], registry=registry)
        self.memory_entries = Gauge("rewander_memory_entries", "Memories of all sessions.", registry=registry)
        self.unwritten = Gauge(
            "rewander_unwritten", "Sessions whose journal failed: the disk is full?", registry=registry
        )
        self.tasks = Gauge("rewander_tasks", "Of the event loop.", registry=registry)
        self.batch_size = Gauge("rewander_batch_size", "Sessions in the last denoise step.", registry=registry)
        self.stage = Histogram(
            "rewander_stage_seconds",
            "The engine's stages of a section.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Count one stage of a section, as `Engine` reports it from its thread."""
        self.stage.labels(stage).observe(seconds)

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


async def watch_loop(metrics: Metrics) -> None:
    """Measure the event loop's lag until cancelled."""
    while True:
        due = time.monotonic() + LAG_EVERY
        await asyncio.sleep(LAG_EVERY)
        metrics.loop_lag.observe(max(0.0, time.monotonic() - due))
