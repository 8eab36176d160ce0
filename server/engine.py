"""The thread that owns the model: it recalls, begins, denoises, decodes (or has that done aside), shows, remembers."""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import numpy as np

from model.world_model import Section, WorldModel

from .decoding import Decoded, Decoding, Undecoded, decode
from .diary import Diary, DiaryConfig
from .failure import Failure, attempt
from .feed import Feed, SessionEndedError
from .handle import Handle, some_seed
from .heap import Heap
from .journal import Journal, Reader, Syncer, UnknownWorldError
from .line import Line
from .link import BusyError, Link, Requests, SharedControls
from .scheduler import Scheduler
from .session import expected_poses, next_histories
from .world import Opening, World, num_frames, restore
from .worlds import newest_world

RETRY_AFTER = 30.0  # seconds, when nothing says when there will be room
STOP_SECONDS = 8.0  # of the ten that a drain may take in all
COST_WEIGHT = 0.1  # of the newest section in the running mean of what one costs

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How many, how long, how much."""

    max_sessions: int = 16
    least_rate: float = 0.5  # share of what one session would have alone, below which no more are taken in
    player_grace: float = 60.0  # seconds that a session outlives its player
    capacity: int = 4096  # latents that each session's memory holds
    diary: DiaryConfig = DiaryConfig()


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The engine's figures; `num_` count from the start on."""

    sessions: int
    attended: int  # sessions that generate, or soon will: someone plays or watches, not paused
    batch_size: int  # of the last denoise step
    section_seconds: float  # the engine's own time for one section of one session, a running mean
    num_sections: int  # made
    num_failures: int  # sections that the model failed at
    num_refused: int  # sessions that there was no room for


class Engine:
    """Plays sessions on one model. Its methods are for the event loop; what has an underscore is for the thread."""

    def __init__(
        self,
        model: WorldModel,
        config: EngineConfig,
        clock: Callable[[], float] = time.monotonic,
        *,
        thumbnail: Callable[[np.ndarray], bytes] = lambda _: b"",
        observe: Callable[[str, float], None] = lambda _stage, _seconds: None,
    ) -> None:
        """`thumbnail` makes the picture of a memory from its frame (H, W, 3); `observe` is told the seconds of every
        stage of a section (recall, begin, step, finish, decode, show, remember). Both are called in the thread.
        """
        self.model, self.config, self.clock = model, config, clock
        self._thumbnail, self._observe = thumbnail, observe
        self._requests = Requests()
        self._scheduler: Scheduler[Line] = Scheduler(max_batch=model.spec.max_batch)
        self._syncer = Syncer()
        self._decoding = Decoding(model, done=self._requests.wake)
        self._decodes_aside = model.spec.decodes_aside
        self._lines: dict[str, Line] = {}
        self._handles: dict[str, Handle] = {}
        self._leaving = self._drains = False
        self._admitted_at = float("-inf")
        self._batch_size = self._num_sections = self._num_failures = self._num_refused = 0
        self._section_seconds = self._decode_seconds = self._spent = 0.0
        self._heap = Heap()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._syncer.start()
        self._thread.start()

    async def stop(self, *, drain: bool) -> None:
        """End all sessions, after the sections in flight if `drain`; their journals stay.

        Returns when the thread has ended, or after `STOP_SECONDS` if the model holds it up.
        """
        with suppress(BusyError):  # it has ended already
            self._requests.post(partial(self._leave, drain))
        await asyncio.to_thread(self._thread.join, STOP_SECONDS)
        if self._thread.is_alive():
            logger.error("the model still holds the engine's thread after %s seconds", STOP_SECONDS)

    @property
    def is_alive(self) -> bool:
        """Whether it can serve: started, and neither leaving nor ended."""
        return self._thread.is_alive() and not self._leaving

    async def open(
        self, *, image: np.ndarray | None = None, prompt: str = "", seed: int | None = None, name: str = ""
    ) -> Handle:
        """Begin a session in a new world: from `image` (H, W, 3) uint8 at any size, or from a start by `seed`.

        Without a seed one is drawn. `name` is the session's id, which no session that lives has; by default it is
        one that nobody can guess. Raises BusyError, and what the model has against the image or prompt. Next:
        `player_joined`, or the session ends when `player_grace` is over.
        """
        link = self._link(name or secrets.token_hex(12))
        return await self._requests.ask(partial(self._open, link, Opening(image, prompt, some_seed(seed))))

    def find(self, session_id: str) -> Handle | None:
        """A session that lives."""
        handle = self._handles.get(session_id)
        return handle if handle is not None and handle.ended is None else None

    @property
    def handles(self) -> list[Handle]:
        """All sessions that live."""
        return list(self._handles.values())

    async def resume(self, session_id: str) -> Handle:
        """A session that lives, or else its newest world brought back from the journal.

        Raises UnknownWorldError if there is neither, WorldInUseError if it is being brought back already, JournalError
        if its journal cannot be used, BusyError.
        """
        if found := self.find(session_id):
            return found
        return await self._requests.ask_in_slices(partial(self._resume, self._link(session_id)))

    def stats(self) -> EngineStats:
        return EngineStats(
            sessions=len(self._handles),
            attended=self._num_attended(),
            batch_size=self._batch_size,
            section_seconds=self._section_seconds,
            num_sections=self._num_sections,
            num_failures=self._num_failures,
            num_refused=self._num_refused,
        )

    def _link(self, session_id: str) -> Link:
        return Link(
            id=session_id,
            controls=SharedControls(self.model.spec.controls),
            feed=Feed(clock=self.clock, changed=self._requests.wake),
            loop=asyncio.get_running_loop(),
            player_gone_at=self.clock(),
        )

    def _run(self) -> None:
        try:
            while not self._leaving or self._scheduler.running or (self._drains and self._decoding.is_busy):
                self._requests.serve(self._rest())
                self._step()
        finally:
            refusal = BusyError("server.leaving", "the server is leaving", retry_after=RETRY_AFTER)
            self._requests.close(refusal)
            for line in self._lines.values():
                line.end(SessionEndedError(refusal.code, str(refusal)))
            self._handles.clear()
            self._syncer.stop()
            self._decoding.stop()

    def _step(self) -> None:
        """One denoise step for all who run, with those who join before it and those who are done after it."""
        began = time.perf_counter()
        self._collect()
        self._let_go()
        self._line_up()
        if not self._leaving:
            self._admitted_at = self.clock()
            if newcomers := self._scheduler.admit(self._admitted_at):
                self._guard(self._begin, newcomers)
        if running := [line for line in self._scheduler.running if line.job is not None and line.job.steps_left]:
            self._guard(self._advance, running)
        if done := [line for line in self._scheduler.running if self._can_finish(line)]:
            self._guard(self._finish, done)
        self._spent += time.perf_counter() - began
        if done:
            self._num_sections += len(done)
            self._section_seconds += COST_WEIGHT * (self._spent / len(done) - self._section_seconds)
            self._spent = 0.0
            self._heap.note(len(done))

    def _rest(self) -> float | None:
        """Seconds to wait for requests: none while a turn has not ended, None while only a request can bring work."""
        running = self._scheduler.running
        if self._requests.has_more or any(self._can_finish(line) or not line.is_sampled for line in running):
            return 0.0
        times = [line.abandoned_at for line in self._lines.values()]
        if not self._leaving:
            times.append(self._scheduler.wake_at(after=self._admitted_at))
        return min((max(0.0, at - self.clock()) for at in times if at is not None), default=None)

    def _let_go(self) -> None:
        """Forget the sessions that are over."""
        for line in list(self._lines.values()):
            if line.abandoned_at is not None and line.abandoned_at <= self.clock():
                line.end(SessionEndedError("session.abandoned", "nobody played for too long"))
            if line.ended is not None:
                self._scheduler.leave(line)
                line.world.forget()
                del self._lines[line.link.id], self._handles[line.link.id]

    def _line_up(self) -> None:
        """Have the sessions wait for a turn that want one and have none."""
        for line in self._lines.values():
            if line.job is not None:
                continue
            self._scheduler.leave(line)
            if line.wants_turn():
                alone = line.strikes > 0  # what breaks the model at one session should spoil no other's section
                self._scheduler.wait(line, begin_at=line.pacer.begin_at, deadline=line.pacer.deadline, alone=alone)

    def _begin(self, lines: Sequence[Line]) -> None:
        worlds = [line.world for line in lines]
        states = [world.state for world in worlds]
        controls = [line.take_controls() for line in lines]
        with self._timed("recall"):
            poses = [expected_poses(self.model, *row) for row in zip(states, controls, strict=True)]
            histories = next_histories([world.session for world in worlds], poses)
        with self._timed("begin"):
            jobs = self.model.begin(states, controls, histories)
        for line, job in zip(lines, jobs, strict=True):
            line.job = job

    def _advance(self, lines: Sequence[Line]) -> None:
        self._batch_size = len(lines)
        with self._timed("step"):
            self.model.advance([line.job for line in lines])
        for line in lines:
            line.note_step(drafts=not self._decoding.is_busy)

    def _can_finish(self, line: Line) -> bool:
        """Whether its section is sampled, and the one before it is decoded: so many are on their way at most."""
        return line.is_sampled and line.kept is None and (self._decodes_aside or not self._decoding.is_busy)

    def _finish(self, lines: Sequence[Line]) -> None:
        """Sections that are sampled count from now on, and are decoded: aside, or at once and shown before the rest."""
        aside = self._decodes_aside
        with self._timed("finish"):
            sections = self.model.finish([line.job for line in lines])
        batch = [Undecoded(line, line.world.state, section) for line, section in zip(lines, sections, strict=True)]
        kept = [one for one in batch if self._guard(partial(self._keep, one.section, aside), [one.line])]
        decoded = None
        if kept and aside:
            self._decoding.put(kept)
        elif kept:
            decoded = decode(self.model, kept)
            self._show(decoded)
        for one in kept:
            self._guard(self._remember, [one.line])
        if decoded is not None:
            self._illustrate(decoded)

    def _collect(self) -> None:
        """Show what has been decoded aside."""
        for decoded in self._decoding.collect():
            self._decode_seconds += COST_WEIGHT * (decoded.seconds / len(decoded.lines) - self._decode_seconds)
            self._show(decoded)
            self._illustrate(decoded)

    def _keep(self, section: Section, aside: bool, lines: Sequence[Line]) -> None:
        lines[0].keep(section, aside=aside)

    def _show(self, decoded: Decoded) -> None:
        self._observe("decode", decoded.seconds)
        if decoded.failure is not None:
            self._strike(decoded.failure, [line for line in decoded.lines if line.lose()])
        for line, frames in decoded.shown:
            with self._timed("show"):
                self._guard(partial(_show, frames), [line])

    def _illustrate(self, decoded: Decoded) -> None:
        for line, frames in decoded.shown:
            self._guard(partial(_illustrate, frames, self._thumbnail), [line])

    def _remember(self, lines: Sequence[Line]) -> None:
        with self._timed("remember"):
            lines[0].remember()

    def _guard(self, stage: Callable[[Sequence[Line]], None], lines: Sequence[Line]) -> bool:
        """Run a stage; if it fails, its sessions lose the section in flight and go on, or end after many strikes."""
        failure = attempt(partial(stage, lines), sessions=[line.link.id for line in lines])
        if failure is not None:
            self._strike(failure, lines)
        return failure is None

    def _strike(self, failure: Failure, lines: Sequence[Line]) -> None:
        self._num_failures += len(lines)
        if failure.is_out_of_memory:
            self._make_room()
        for line in lines:
            line.strike(failure)
            if line.ended is None:
                self._guard(_revive, [line])

    def _make_room(self) -> None:
        """Do less at once from now on: memory that ran out will do so again. Each of the sessions goes alone first."""
        num_running = len(self._scheduler.running)
        if self._decodes_aside:
            self._decodes_aside = False
            logger.warning("out of memory: nothing is decoded aside from now on")
        elif num_running > 1:
            self._scheduler.narrow(num_running // 2)
            logger.warning("out of memory: at most %d sessions at once from now on", num_running // 2)

    def _open(self, link: Link, opening: Opening) -> Handle:
        self._check_room()
        assert link.id not in self._lines, f"the name {link.id} is taken"
        world = World(self.model, opening, first_frame=0, capacity=self.config.capacity)
        diary = Diary(self.config.diary, self._syncer)
        diary.begin(world.opened(session=link.id, created=time.time()))
        return self._take_in(link, world, diary)

    def _resume(self, link: Link) -> Generator[None, None, Handle]:
        folder = self.config.diary.folder
        if folder is None:
            raise UnknownWorldError(f"expected a session that lives, got {link.id!r}, and none are written down")
        if found := self.find(link.id):  # a request before this one brought it back
            return found
        self._check_room()
        journal = Journal(newest_world(folder, link.id), limit=self.config.diary.limit)
        with ExitStack() as undo:
            undo.callback(journal.close)
            reader = Reader(journal.path)
            world = yield from restore(self.model, reader)
            undo.pop_all()
        diary = Diary(self.config.diary, self._syncer)
        diary.resume(journal, reader)
        return self._take_in(link, world, diary)

    def _take_in(self, link: Link, world: World, diary: Diary) -> Handle:
        line = Line(link, world, diary, clock=self.clock, grace=self.config.player_grace)
        self._lines[link.id] = line
        self._handles[link.id] = Handle(line, self._requests, clock=self.clock)
        return self._handles[link.id]

    def _check_room(self) -> None:
        """Raises BusyError when there are too many, or one more would make all too slow by what sections cost now."""
        if self._leaving:
            raise BusyError("server.leaving", "the server is leaving", retry_after=RETRY_AFTER)
        self._let_go()
        spec, attended = self.model.spec, self._num_attended()
        cost = max(self._section_seconds, self._decode_seconds)  # what is decoded aside may take longer than the steps
        load = min(1.0, cost * spec.frame_rate / num_frames(spec))  # slow models are shared too
        is_crowded = attended > 0 and (attended + 1) * load * self.config.least_rate > 1.0
        if is_crowded or len(self._lines) >= self.config.max_sessions:
            self._num_refused += 1
            gone = [line.abandoned_at - self.clock() for line in self._lines.values() if line.abandoned_at is not None]
            raise BusyError(
                "server.busy",
                f"expected room for one more session, got {len(self._lines)} sessions, {attended} of them at play",
                retry_after=max(1.0, min(gone, default=RETRY_AFTER)),
            )

    def _num_attended(self) -> int:
        return sum(line.link.is_wanted and not line.paused for line in list(self._lines.values()))

    def _leave(self, drain: bool) -> None:
        self._leaving, self._drains = True, drain
        if not drain:
            for line in self._lines.values():
                self._scheduler.leave(line)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._observe(stage, time.perf_counter() - began)


def _show(frames: np.ndarray, lines: Sequence[Line]) -> None:
    lines[0].show(frames)


def _illustrate(frames: np.ndarray, thumbnail: Callable[[np.ndarray], bytes], lines: Sequence[Line]) -> None:
    lines[0].illustrate(frames, thumbnail=thumbnail)


def _revive(lines: Sequence[Line]) -> None:
    for line in lines:
        line.world.revive()
