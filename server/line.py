"""One session at work in the engine's thread: its world, the section in flight, its schedule and its diary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.world_model import Section

from .controls import Applied
from .diary import Diary
from .failure import Failure
from .feed import Produced, SessionEndedError
from .journal import Illustrated, Prompted
from .link import Link
from .pacing import Pacer
from .progress import TELL_EVERY, DraftingModel, Progress
from .session import Recalled
from .world import World, advanced, num_frames

MAX_STRIKES = 3  # failures of the model in a row that end a session
COME_BACK_AFTER = 5.0  # seconds, to a session that has ended so and is written down


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A section that its world goes on from and whose frames are still to be shown, with what those will need."""

    world: World
    first: int  # frame
    applied: Sequence[Applied]
    begun: float | None  # for the pacer, if it is decoded aside
    recalled: Recalled
    strikes: int  # of its session when it began


class Line:
    """Belongs to the engine's thread; others may read `paused`, `recalls`, `ended`, `progress` and figures."""

    def __init__(self, link: Link, world: World, diary: Diary, *, clock: Callable[[], float], grace: float) -> None:
        """`grace` is for how many seconds it outlives its player."""
        spec = world.model.spec
        self.link, self.world, self.diary = link, world, diary
        self.paused = False
        self.recalls = True
        self.ended: SessionEndedError | None = None
        self.job: Any = None
        self.kept: Kept | None = None
        self.progress: Progress | None = None
        self.strikes = 0
        self.generate_ms = 0.0
        self._clock, self._grace = clock, grace
        self._applied: list[Applied] = []
        self._stored: list[int] = []  # latents that memory took and that have no picture yet
        self._strikes_before = 0
        self._begun = self._tell_at = 0.0
        self._resting = True
        self.pacer = Pacer(frame_rate=spec.frame_rate, num_frames=num_frames(spec), now=clock())

    @property
    def abandoned_at(self) -> float | None:
        """When it ends if no player comes; None while there is one."""
        gone_at = self.link.player_gone_at
        return None if gone_at is None else gone_at + self._grace

    def wants_turn(self) -> bool:
        """Whether it is to generate: attended, not paused, not over. After a rest its schedule starts anew."""
        awake = self.link.is_attended and not self.paused and self.ended is None
        if awake and self._resting:
            has_shown = self.world.session.num_sections > 0  # then the last frame is seen again, for its time
            self.pacer.restart(self._clock() + has_shown * self.pacer.period)
        self._resting = not awake
        return awake

    def take_controls(self) -> np.ndarray:
        """Bind the newest controls to the next section: (frames, A). As late as possible."""
        now = self._clock()
        self._begun, self._tell_at, self._strikes_before = self.pacer.begin_at, now + TELL_EVERY, self.strikes
        self._applied = self.link.controls.take(now, num_frames=num_frames(self.world.model.spec))
        return np.stack([applied.vector for applied in self._applied])

    def note_step(self, *, drafts: bool) -> None:
        """After a denoise step of a section that takes long: let those who wait know how far it is.

        Without `drafts` they are shown no picture of it: the decoder has other work.
        """
        now, model = self._clock(), self.world.model
        if now < self._tell_at or not self.job.steps_left:
            return
        draft = model.draft(self.job) if drafts and isinstance(model, DraftingModel) else None
        num_steps = model.spec.num_steps
        self.progress = Progress(self.world.next_frame, num_steps - self.job.steps_left, num_steps, draft)
        self._tell_at = now + TELL_EVERY

    def keep(self, section: Section, *, aside: bool) -> None:
        """Make a finished section the newest and write it down; `show` is next, a while later if decoded `aside`."""
        session, first = self.world.session, self.world.next_frame
        session.commit(section)
        controls = np.stack([applied.vector for applied in self._applied])
        self.diary.write(advanced(section, controls, recalls=session.recalls))
        begun = self._begun if aside else None
        self.kept = Kept(self.world, first, self._applied, begun, session.recalled, self._strikes_before)
        if aside:
            self.pacer.hand_on(self._clock(), begun=self._begun)
        self.job = None
        self.progress = None

    @property
    def is_sampled(self) -> bool:
        """Whether the section in flight has no steps left."""
        return self.job is not None and not self.job.steps_left

    def lose(self) -> bool:
        """The frames of what was kept cannot be made; returns whether anyone would have seen them."""
        kept, self.kept = self.kept, None
        assert kept is not None, "what was lost is a section's"
        self.pacer.restart(self._clock())
        return self.ended is None and kept.world is self.world

    def show(self, frames: np.ndarray) -> None:
        """Send the frames (n, H, W, 3) of what was kept on their way, unless its world has been left."""
        kept, self.kept = self.kept, None
        assert kept is not None, "frames are of a section"
        if self.ended is not None or kept.world is not self.world:
            return
        now = self._clock()
        self.generate_ms = 1000 * (now - kept.applied[0].t_applied)
        produced = [
            Produced(
                index=kept.first + i,
                frame=frame,
                applied_seq=applied.seq,
                client_ts=applied.client_ts,
                t_recv=1000 * applied.t_recv,
                t_applied=1000 * applied.t_applied,
                recalled=kept.recalled,
                generate_ms=self.generate_ms,
            )
            for i, (frame, applied) in enumerate(zip(frames, kept.applied, strict=True))
        ]
        times = self.pacer.release(now, begun=kept.begun)
        self.link.call(self.link.feed.release, list(zip(times, produced, strict=True)))
        if self.strikes == kept.strikes:  # one that failed since then has not succeeded yet
            self.strikes = 0

    def remember(self) -> None:
        """Offer the section kept last to memory."""
        self._stored = self.world.remember()

    def illustrate(self, frames: np.ndarray, *, thumbnail: Callable[[np.ndarray], bytes]) -> None:
        """Give what memory took of a section its pictures, from the section's frames."""
        spec, session = self.world.model.spec, self.world.session
        first = session.num_latents - spec.section_latents
        for index in self._stored:
            picture = thumbnail(frames[(index - first + 1) * spec.frames_per_latent - 1])
            session.illustrate(index, picture)
            self.diary.write(Illustrated(index, picture))
        self._stored = []

    def strike(self, failure: Failure) -> None:
        """The model failed at it. The section in flight is lost; the world goes on from the last one, or ends."""
        self.job = None
        self.progress = None
        self.strikes += 1
        if self.strikes < MAX_STRIKES:
            reason = f"the model failed, and the world goes on from its last finished section: {failure.reason}"
            self.link.call(self.link.feed.set_back, reason)
            return
        is_written = not self.diary.problem
        reason = f"the model failed {self.strikes} times in a row: {failure.reason}"
        self.end(SessionEndedError("session.failed", reason, retry_after=COME_BACK_AFTER if is_written else 0.0))

    def set_prompt(self, prompt: str) -> None:
        self.world.set_prompt(prompt)
        self.diary.write(Prompted(prompt))

    def set(self, *, recalls: bool | None, paused: bool | None) -> None:
        """None leaves a setting as it is."""
        self.recalls = self.world.session.recalls = self.recalls if recalls is None else recalls
        self.paused = self.paused if paused is None else paused

    def enter(self, world: World, *, created: float) -> None:
        """Leave this world for another; frames of the old one that wait for their time are dropped."""
        self.world = world
        self.job = None
        self._stored = []
        world.session.recalls = self.recalls
        self.diary.begin(world.opened(session=self.link.id, created=created))
        self.pacer.restart(self._clock())
        self.link.call(self.link.feed.clear)

    def end(self, ended: SessionEndedError) -> None:
        """Tell all readers why there are no more frames. Its journal stays."""
        if self.ended is None:
            self.job = None
            self._stored = []
            self.ended = ended
            self.diary.close()
            self.link.call(self.link.feed.end, ended)
