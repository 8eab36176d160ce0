"""One session on the air: each frame is encoded once and handed to all who watch, the player first."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from model.world_model import ModelSpec

from .auth import Role
from .encode import LEAST_BIT_RATE, Codec, EncodeConfig, Picture, Studio, ceiling
from .feed import Produced, SessionEndedError
from .handle import Handle
from .mailbox import Messages, Pictures, Shot
from .metrics import Metrics
from .progress import Progress, message_of
from .protocol import Error, Message, Recalled, Receipt, Status
from .rate import RateControl

KEY_GAP = 0.3  # seconds between key frames, however many ask
REPEAT_AFTER = 0.25  # seconds without a frame until one who needs a key frame is shown the last frame again
STATUS_EVERY = 1.0
RECALLED_GAP = 0.25  # seconds between messages with thumbnails, which may change with every frame
RTP_CLOCK = 90_000


@dataclass(slots=True, eq=False)
class Watcher:
    """One connection that watches a session: its boxes are filled by the broadcast and read by the transport.

    Only the broadcast changes its `role`.
    """

    role: Role
    codec: Codec
    pictures: Pictures
    messages: Messages


@dataclass(frozen=True, slots=True)
class Air:
    """What all broadcasts of a server share."""

    spec: ModelSpec
    config: EncodeConfig
    executor: Executor  # of one thread, so that encoding takes one core at most and never the event loop
    clock: Callable[[], float]  # monotonic seconds, the engine's
    metrics: Metrics


class Broadcast:
    """Encodes and hands out the frames of one session while `run` runs; the other methods may be called any time."""

    def __init__(self, handle: Handle, air: Air) -> None:
        self.handle = handle
        self._air = air
        self._mailbox = handle.mailbox(set_back=self._set_back)  # open while anyone watches
        spec, config = air.spec, air.config
        self._studio = Studio(spec.frame_shape, frame_rate=spec.frame_rate, config=config)
        most = ceiling(spec.frame_shape, frame_rate=spec.frame_rate, config=config)
        self._rate = RateControl(most, min(most, LEAST_BIT_RATE))
        self._watchers: list[Watcher] = []
        self._newest: Produced | None = None
        self._num_frames = 0
        self._wants_key = False
        self._key_at = self._told_at = float("-inf")
        self._told: Produced | None = None
        self._told_progress: Progress | None = None
        self._ended: Error | None = None
        self._patience: asyncio.Timeout | None = None

    def join(self, *, role: Role, codec: Codec) -> Watcher:
        """Begin to watch; the first picture is a key frame. `leave` when done."""
        pictures = Pictures(needs_key=self.needs_key, overflowed=lambda lost: self._overflowed(watcher, lost))
        watcher = Watcher(role, codec, pictures, Messages())
        self._place(watcher)
        if len(self._watchers) == 1:
            self._mailbox.open()
        if self._ended is not None:
            watcher.messages.put(self._ended)
        self.needs_key()
        return watcher

    def greet(self, watcher: Watcher, welcome: Message) -> None:
        """Say welcome to one who watches, and what is remembered now."""
        watcher.messages.put(welcome)
        if self._told is not None:
            watcher.messages.put(_recalled(self._told))

    def recast(self, watcher: Watcher, role: Role) -> None:
        """One who watches has another role from now on."""
        self._watchers.remove(watcher)
        watcher.role = role
        self._place(watcher)

    def leave(self, watcher: Watcher) -> None:
        self._watchers.remove(watcher)
        if not self._watchers:
            self._mailbox.close()

    def needs_key(self) -> None:
        """Someone's decoder needs a key frame; many who ask at once get one."""
        self._wants_key = True
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time() + REPEAT_AFTER)

    def estimates(self, bit_rate: int) -> None:
        """The player's receiver estimates what its link can take, in bits per second."""
        self._air.metrics.estimate.observe(bit_rate)
        self._rate.remb(bit_rate, now=self._air.clock())

    def lost(self, fraction: float) -> None:
        """The player's receiver lost this fraction of the packets since it last said so."""
        self._rate.lost(fraction, now=self._air.clock())

    def answered(self, times: Sequence[float]) -> None:
        """The player's client saw its inputs answered after so many milliseconds each."""
        for milliseconds in times:
            self._air.metrics.action_to_photon.observe(milliseconds / 1000)

    def tell(self, message: Message) -> None:
        """Send a message to all who watch."""
        for watcher in self._watchers:
            watcher.messages.put(message)

    async def run(self) -> None:
        """Broadcast until the session ends, which is then told to all who watch, or until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._report())
                tasks.create_task(self._film())
        except* SessionEndedError as ended:
            (reason,) = ended.exceptions
            assert isinstance(reason, SessionEndedError)
            self.end(Error(code=reason.code, message=str(reason), retry_after=reason.retry_after))
        finally:
            self._mailbox.close()
            # megabytes, that would wait for the garbage collector: what watches and is watched refers to each other
            self._air.executor.submit(self._studio.close)

    def end(self, reason: Error) -> None:
        """Tell those who watch, and those who will, why there is no more to see."""
        self._ended = reason
        self.tell(reason)

    def _set_back(self, reason: str) -> None:
        self.tell(Error(code="model.failed", message=reason))

    async def _film(self) -> None:
        while True:
            produced = await self._next()
            if produced is not None and self._watchers:
                await self._show(produced)

    async def _next(self) -> Produced | None:
        """The next frame, or the last one again when none comes (in a pause) and someone needs a key frame."""
        try:
            async with asyncio.timeout(REPEAT_AFTER if self._wants_key else None) as self._patience:
                self._note(await self._mailbox.get())
        except TimeoutError:
            return self._newest
        finally:
            self._patience = None
        return self._newest

    async def _show(self, produced: Produced) -> None:
        clock, metrics = self._air.clock, self._air.metrics
        began = clock()
        key = self._wants_key and began - self._key_at >= KEY_GAP
        if key:
            self._wants_key, self._key_at = False, began
        bit_rate = self._rate.bit_rate(now=began)
        codecs = {watcher.codec for watcher in self._watchers}
        shoot = partial(self._studio.shoot, produced.frame, codecs=codecs, key=key, bit_rate=bit_rate)
        pictures = await asyncio.get_running_loop().run_in_executor(self._air.executor, shoot)
        made = clock()
        metrics.encode.observe(made - began)
        metrics.bit_rate.observe(bit_rate)
        if video := pictures.get("h264"):
            self._count(video, made)
        self._hand_out(produced, pictures, made)

    def _hand_out(self, produced: Produced, pictures: dict[Codec, Picture], made: float) -> None:
        receipt = Receipt(
            frame=produced.index,
            applied_seq=produced.applied_seq,
            client_ts=produced.client_ts,
            t_recv=produced.t_recv,
            t_applied=produced.t_applied,
            t_sent=0.0,
        )
        timestamp = int(made * RTP_CLOCK) & 0xFFFFFFFF
        for watcher in self._watchers:
            if picture := pictures.get(watcher.codec):  # none for one who joined while this was encoded
                watcher.pictures.put(Shot(picture, receipt, timestamp, made))

    def _note(self, produced: Produced) -> None:
        before, self._newest = self._newest, produced
        self._num_frames += 1
        metrics, now = self._air.metrics, self._air.clock()
        metrics.frames.inc()
        metrics.generate.observe(produced.generate_ms / 1000)
        if produced.applied_seq >= 0 and (before is None or produced.applied_seq != before.applied_seq):
            metrics.tick_wait.observe((produced.t_applied - produced.t_recv) / 1000)
        if produced.recalled is not (self._told and self._told.recalled) and now - self._told_at >= RECALLED_GAP:
            self._told, self._told_at = produced, now
            self.tell(_recalled(produced))

    def _count(self, video: Picture, now: float) -> None:
        if video.key:
            self._air.metrics.key_frames.inc()
        else:
            self._rate.sent(8 * len(video.data), now=now)

    def _place(self, watcher: Watcher) -> None:
        self._watchers.insert(0 if watcher.role == "player" else len(self._watchers), watcher)

    def _overflowed(self, watcher: Watcher, lost: int) -> None:
        self._air.metrics.dropped.labels(watcher.role, watcher.codec).inc(lost)
        if watcher.role == "player" and watcher.codec == "h264":
            self._rate.overflow(now=self._air.clock())

    async def _report(self) -> None:
        while True:
            counted, began = self._num_frames, self._air.clock()
            await asyncio.sleep(STATUS_EVERY)
            self.tell(self._status((self._num_frames - counted) / (self._air.clock() - began)))
            await self._tell_progress()

    async def _tell_progress(self) -> None:
        progress = self.handle.progress
        if progress is None or progress is self._told_progress:
            return
        self._told_progress = progress
        if self._watchers:
            self.tell(await asyncio.get_running_loop().run_in_executor(self._air.executor, message_of, progress))

    def _status(self, fps: float) -> Status:
        handle = self.handle
        return Status(
            fps=round(fps, 2),
            generate_ms=round(handle.stats().generate_ms, 2),
            context_tokens=self._air.spec.context_tokens,
            memory_entries=handle.num_memories,
            viewers=sum(watcher.role == "viewer" for watcher in self._watchers),
            recall=handle.recalls,
            paused=handle.paused,
        )


def _recalled(produced: Produced) -> Recalled:
    """The message for what the model read from memory when it made this frame."""
    chosen = produced.recalled
    return Recalled(
        frame=produced.index,
        ids=list(chosen.ids),
        scores=list(chosen.scores),
        why=list(chosen.why),
        thumbnails=list(chosen.thumbnails),
    )
