"""A world as the model plays it: one world line with the model's state of it, made anew from a journal when need be."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from model.world_model import ModelSpec, Section, WorldModel

from .journal import Advanced, Illustrated, JournalError, Opened, Prompted, Record
from .session import Session, expected_poses, next_histories

SLICE = 32  # sections restored at a time: a long world must not hold up those who play


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """How a world begins."""

    image: np.ndarray | None  # (H, W, 3) uint8, or None for a start of the model's choice
    prompt: str
    seed: int


class World:
    """What one session plays: `session` is its history, `state` the model's own memory of it."""

    def __init__(self, model: WorldModel, opening: Opening, *, first_frame: int, capacity: int) -> None:
        """`first_frame` is the index of its first frame in the session's stream; `capacity` of the memory bank."""
        self.model = model
        self.opening = opening
        self.first_frame = first_frame
        self.prompt = opening.prompt
        self.state = model.open(image=opening.image, prompt=opening.prompt, seed=opening.seed)
        start = self.state.start
        [key], [sight] = model.features(start.latents), model.sight(start.latents)
        self.session = Session(model.spec, start, key=key, sight=sight, seed=opening.seed, capacity=capacity)

    @property
    def next_frame(self) -> int:
        return self.first_frame + self.session.num_frames

    def set_prompt(self, prompt: str) -> None:
        self.model.set_prompt(self.state, prompt)
        self.prompt = prompt

    def remember(self) -> list[int]:
        """Offer the newest section to the memory bank; returns the indices of the latents that it stored."""
        count = self.session.num_unremembered
        if not count:
            return []
        latents = self.session.recent.latents[-count:]
        return self.session.remember(self.model.features(latents), self.model.sight(latents))

    def revive(self) -> None:
        """Give the model a new state of the same world, from its last whole section on."""
        opening = self.opening
        self.state = self.model.open(image=opening.image, prompt=opening.prompt, seed=opening.seed)
        if self.prompt != opening.prompt:
            self.model.set_prompt(self.state, self.prompt)
        if self.session.num_sections:
            recent = self.session.recent
            self.model.resume(self.state, recent.latents, recent.poses, num_sections=self.session.num_sections)
        self.remember()

    def forget(self) -> None:
        """Let go of all that takes room, at once: exceptions keep ended sessions until garbage is collected."""
        del self.state
        self.session.forget()

    def opened(self, *, session: str, created: float) -> Opened:
        """The first record of its journal; `created` in seconds since 1970."""
        spec, image = self.model.spec, self.opening.image
        return Opened(
            session=session,
            model=spec.name,
            seed=self.opening.seed,
            prompt=self.opening.prompt,
            image=b"" if image is None else image.tobytes(),
            image_shape=(0, 0) if image is None else (image.shape[0], image.shape[1]),
            section_frames=num_frames(spec),
            first_frame=self.first_frame,
            capacity=self.session.capacity,
            created=created,
        )


def num_frames(spec: ModelSpec) -> int:
    """Frames, and so controls, of one section."""
    return spec.section_latents * spec.frames_per_latent


def advanced(section: Section, controls: np.ndarray, *, recalls: bool) -> Advanced:
    """The record of a section; `controls` (frames, A) float32."""
    return Advanced(controls.tobytes(), section.latents.tobytes(), section.poses.tobytes(), recalls)


def restore(model: WorldModel, records: Iterable[Record]) -> Generator[None, None, World]:
    """Bring back a world from its journal, a slice at a time; returns it ready for its next section.

    Raises JournalError if the journal is of another model.
    """
    remaining = iter(records)
    world = _reopen(model, next(remaining, None))
    for count, record in enumerate(remaining, 1):
        if isinstance(record, Advanced):
            world.session.commit(_section(model.spec, record))
            world.remember()
        elif isinstance(record, Prompted):
            world.prompt = record.text
        elif isinstance(record, Illustrated):
            world.session.illustrate(record.index, record.thumbnail)
        if count % SLICE == 0:
            yield
    world.revive()
    return world


def show(model: WorldModel, records: Iterable[Record]) -> Iterator[np.ndarray]:
    """The frames (n, H, W, 3) of each recorded section, decoded and not sampled again."""
    remaining = iter(records)
    world = _reopen(model, next(remaining, None))
    for record in remaining:
        if isinstance(record, Advanced):
            [frames] = model.decode([world.state], [_section(model.spec, record)])
            yield frames


def replay(model: WorldModel, records: Iterable[Record], *, tolerance: float = 0.0) -> Iterator[np.ndarray]:
    """Play a journal's controls again: the frames (n, H, W, 3) of each section, the same as the first time.

    Each section is sampled after the recorded ones before it. Raises JournalError if the journal is of another model,
    or if latents differ from the recorded ones by more than `tolerance`. On the machine that recorded them 0 holds if
    the model gives the same bits in a batch of any size and after `resume`, or if neither ever happened.
    """
    remaining = iter(records)
    world = _reopen(model, next(remaining, None))
    for record in remaining:
        if isinstance(record, Prompted):
            world.set_prompt(record.text)
        elif isinstance(record, Advanced):
            controls = np.frombuffer(record.controls, np.float32).reshape(num_frames(model.spec), -1).copy()
            world.session.recalls = record.recalls
            section, recorded = sample(world, controls), _section(model.spec, record)
            difference = np.abs(section.latents.astype(np.float32) - recorded.latents).max()
            if not difference <= tolerance:
                number = world.session.num_sections + 1
                raise JournalError(f"expected section {number} as recorded to {tolerance}, got it {difference} off")
            yield model.decode([world.state], [section])[0]
            world.session.commit(recorded)
            world.remember()


def sample(world: World, controls: np.ndarray) -> Section:
    """The next section, alone, under its `controls` (frames, A). Next: decode, commit and remember it."""
    model = world.model
    histories = next_histories([world.session], [expected_poses(model, world.state, controls)])
    jobs = model.begin([world.state], [controls], histories)
    while jobs[0].steps_left:
        model.advance(jobs)
    return model.finish(jobs)[0]


def _reopen(model: WorldModel, record: Record | None) -> World:
    if not isinstance(record, Opened):
        raise JournalError(f"expected a journal to begin with what it opened, got {record!r}")
    spec = model.spec
    if (record.model, record.section_frames) != (spec.name, num_frames(spec)):
        raise JournalError(f"expected a world of the model {spec.name!r}, got one of {record.model!r}")
    image = np.frombuffer(record.image, np.uint8).reshape(*record.image_shape, 3).copy() if record.image else None
    opening = Opening(image, record.prompt, record.seed)
    return World(model, opening, first_frame=record.first_frame, capacity=record.capacity)


def _section(spec: ModelSpec, record: Advanced) -> Section:
    latents = np.frombuffer(record.latents, np.float16).reshape(spec.section_latents, *spec.latent_shape)
    return Section(latents, np.frombuffer(record.poses, np.float32).reshape(spec.section_latents, 3))
