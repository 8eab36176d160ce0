"""One session at work in the engine's thread: its world, the section in flight, its schedule and its diary."""

from collections.abc import Callable
from typing import Any

import numpy as np

from model.world_model import Section

from .controls import Applied
from .diary import Diary
from .feed import Produced, SessionEndedError
from .journal import Illustrated, Prompted
from .link import Link
from .pacing import Pacer
from .progress import TELL_EVERY, DraftingModel, Progress
from .world import World, advanced, num_frames

MAX_STRIKES = 3  # failures of the model in a row that end a session


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
        self.progress: Progress | None = None
        self.strikes = 0
        self.generate_ms = 0.0
        self._clock, self._grace = clock, grace
        self._applied: list[Applied] = []
        self._tell_at = 0.0
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
        self._tell_at = now + TELL_EVERY
        self._applied = self.link.controls.take(now, num_frames=num_frames(self.world.model.spec))
        return np.stack([applied.vector for applied in self._applied])

    def note_step(self) -> None:
        """After a denoise step of a section that takes long: let those who wait know how far it is."""
        now, model = self._clock(), self.world.model
        if now < self._tell_at or not self.job.steps_left:
            return
        draft = model.draft(self.job) if isinstance(model, DraftingModel) else None
        num_steps = model.spec.num_steps
        self.progress = Progress(self.world.next_frame, num_steps - self.job.steps_left, num_steps, draft)
        self._tell_at = now + TELL_EVERY

    def show(self, section: Section, frames: np.ndarray) -> None:
        """Make a finished section the newest, write it down, and send its frames (n, H, W, 3) on their way."""
        session, now = self.world.session, self._clock()
        first = self.world.next_frame
        session.commit(section)
        controls = np.stack([applied.vector for applied in self._applied])
        self.diary.write(advanced(section, controls, recalls=session.recalls))
        self.generate_ms = 1000 * (now - self._applied[0].t_applied)
        produced = [
            Produced(
                index=first + i,
                frame=frame,
                applied_seq=applied.seq,
                client_ts=applied.client_ts,
                t_recv=1000 * applied.t_recv,
                t_applied=1000 * applied.t_applied,
                recalled=session.recalled,
                generate_ms=self.generate_ms,
            )
            for i, (frame, applied) in enumerate(zip(frames, self._applied, strict=True))
        ]
        self.link.call(self.link.feed.release, list(zip(self.pacer.release(now), produced, strict=True)))
        self.job = None
        self.progress = None
        self.strikes = 0

    def remember(self, frames: np.ndarray, *, thumbnail: Callable[[np.ndarray], bytes]) -> None:
        """Offer the section shown last to memory; what is kept gets a picture."""
        spec, session = self.world.model.spec, self.world.session
        first = session.num_latents - spec.section_latents
        for index in self.world.remember():
            picture = thumbnail(frames[(index - first + 1) * spec.frames_per_latent - 1])
            session.illustrate(index, picture)
            self.diary.write(Illustrated(index, picture))

    def strike(self, error: Exception) -> None:
        """The model failed at it. The section in flight is lost; the world goes on from the last one, or ends."""
        self.job = None
        self.strikes += 1
        if self.strikes >= MAX_STRIKES:
            self.end(SessionEndedError("model.failed", f"the model failed {self.strikes} times in a row: {error!r}"))

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
        world.session.recalls = self.recalls
        self.diary.begin(world.opened(session=self.link.id, created=created))
        self.pacer.restart(self._clock())
        self.link.call(self.link.feed.clear)

    def end(self, ended: SessionEndedError) -> None:
        """Tell all readers why there are no more frames. Its journal stays."""
        if self.ended is None:
            self.job = None
            self.ended = ended
            self.diary.close()
            self.link.call(self.link.feed.end, ended)
