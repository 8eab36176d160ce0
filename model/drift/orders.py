"""Sampling orders as plans of indices: which latents each sampling makes, which it sees, and where they stand in time.

A clip's latents count from 0: `given` ones that exist already, the sections, then the given `ends`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..packing.layout import Place, lay_out
from ..packing.schedule import Schedule

EMPTY = -1  # a source: nothing yet, the slot holds zeros and is not valid


class OrderError(ValueError):
    """An order that the clip or the schedule does not allow."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What is to be made: sections, after `given` latents (start image, a video to extend), before `ends` latents."""

    sections: int
    given: int = 1
    ends: int = 0

    def __post_init__(self) -> None:
        if not (self.sections >= 1 and self.given >= 0 and self.ends >= 0):
            raise OrderError(f"expected at least one section and no negative numbers of given latents, got {self}")


@dataclass(frozen=True, slots=True)
class View:
    """One context segment as a sampling sees it. Sources of recalled slots are EMPTY: the memory fills them."""

    place: Place  # its role, kernel and RoPE indices
    sources: tuple[int, ...]  # the clip's latents, EMPTY where there is none


@dataclass(frozen=True, slots=True)
class Tail:
    """Latents that have left the slots, for the tails that keep something of them."""

    sources: range = range(0)
    indices: range = range(0)  # RoPE; negative left of the slots


@dataclass(frozen=True, slots=True)
class Sampling:
    """One sampling of the plan."""

    target: tuple[int, ...]  # the clip's latents that it makes
    indices: tuple[int, ...]  # their RoPE indices
    context: tuple[View, ...]
    tail: Tail = Tail()


def num_sections(seconds: float, *, frame_rate: float = 30.0, section: int = 9, frames_per_latent: int = 4) -> int:
    """FramePack's number of sections for a clip: the nearest, at least one."""
    return max(round(seconds * frame_rate / (section * frames_per_latent)), 1)


def paddings(sections: int) -> tuple[int, ...]:
    """How many sections the inverted order leaves between start and target, sampling by sampling, as released.

    True distances up to 4 sections; beyond, the model has seen nothing farther than 3 and is told 2 all along.
    """
    if sections > 4:
        return (3, *(2,) * (sections - 3), 1, 0)
    return tuple(reversed(range(sections)))


def spread_endpoints(sections: int, *, count: int) -> tuple[int, ...]:
    """`count` sections evenly spread over the clip, the last among them, to plan with."""
    if not 1 <= count <= sections:
        raise OrderError(f"expected from 1 to {sections} endpoints in {sections} sections, got {count}")
    return tuple((i + 1) * sections // count - 1 for i in range(count))


def forward(schedule: Schedule, clip: Clip) -> Iterator[Sampling]:
    """Past to future, section after section: vanilla, or F1 if the schedule pins a start."""
    _expect(schedule, "vanilla")
    return _fill(schedule, _Known(schedule, clip), range(clip.sections))


def endpoint(schedule: Schedule, clip: Clip) -> Iterator[Sampling]:
    """Anti-drifting (Fig. 2b): one sampling makes the first and the last section together, then the gap is filled.

    That first target has the latents of both sections and its indices jump in the middle.
    """
    _expect(schedule, "endpoint")
    return _endpoint(schedule, _Known(schedule, clip), clip.sections)


def planned(schedule: Schedule, clip: Clip, *, endpoints: Sequence[int]) -> Iterator[Sampling]:
    """Planned anti-drifting (Fig. 2d): make the sections `endpoints` first, each seeing the one before, then the rest.

    Give each endpoint the prompt or controls of its own time: `Sampling.target` says when that is.
    """
    _expect(schedule, "endpoint")
    if sorted(set(endpoints)) != list(endpoints) or not all(0 <= e < clip.sections for e in endpoints):
        raise OrderError(f"expected growing endpoints from 0 to {clip.sections - 1}, got {tuple(endpoints)}")
    rest = sorted(set(range(clip.sections)) - set(endpoints))
    return _fill(schedule, _Known(schedule, clip), [*endpoints, *rest])


def inverted(schedule: Schedule, clip: Clip) -> Iterator[Sampling]:
    """Inverted anti-drifting (Fig. 2c): the last section first, always seeing the start; the released I2V model's."""
    _expect(schedule, "inverted")
    known = _Known(schedule, clip)
    order = zip(reversed(range(clip.sections)), paddings(clip.sections), strict=True)
    return (_sampling(schedule, known, section, gap=gap * schedule.target) for section, gap in order)


class _Known:
    """Which latents of the clip exist at this point of the plan."""

    def __init__(self, schedule: Schedule, clip: Clip) -> None:
        self.clip = clip
        self.section_size = schedule.target
        self.end = clip.given + clip.sections * schedule.target
        self.length = self.end + clip.ends
        self._made = bytearray(clip.sections)

    def target(self, section: int) -> range:
        first = self.clip.given + section * self.section_size
        return range(first, first + self.section_size)

    def add(self, section: int) -> None:
        self._made[section] = 1

    def has(self, latent: int) -> bool:
        if 0 <= latent < self.clip.given or self.end <= latent < self.length:
            return True
        section = (latent - self.clip.given) // self.section_size
        return 0 <= latent and 0 <= section < self.clip.sections and bool(self._made[section])

    def newest_before(self, section: int) -> int:
        """The last known latent left of `section`; -1 if there is none."""
        made = self._made.rfind(1, 0, section)
        return self.target(made)[-1] if made >= 0 else self.clip.given - 1

    def first_after(self, section: int) -> int | None:
        made = self._made.find(1, section + 1)
        if made >= 0:
            return self.target(made)[0]
        return self.end if self.clip.ends else None

    def run_start(self, latent: int) -> int:
        """The first of the known latents without a gap up to `latent`, a known one."""
        section = max(latent - self.clip.given, 0) // self.section_size
        missing = self._made.rfind(0, 0, section)
        return self.target(missing)[-1] + 1 if missing >= 0 else 0

    def sources(self, latents: range) -> tuple[int, ...]:
        return tuple(latent if self.has(latent) else EMPTY for latent in latents)


def _expect(schedule: Schedule, form: str) -> None:
    if schedule.form != form:
        raise OrderError(f"expected a schedule of {form} form for this order, got the {schedule.form} {schedule}")


def _fill(schedule: Schedule, known: _Known, sections: Sequence[int]) -> Iterator[Sampling]:
    return (_sampling(schedule, known, section) for section in sections)


def _endpoint(schedule: Schedule, known: _Known, sections: int) -> Iterator[Sampling]:
    first = _sampling(schedule, known, 0)
    if sections > 1:
        jump = (sections - 1) * schedule.target
        known.add(sections - 1)
        yield Sampling(
            target=(*first.target, *(latent + jump for latent in first.target)),
            indices=(*first.indices, *(index + jump for index in first.indices)),
            context=first.context,
            tail=first.tail,
        )
    else:
        yield first
    yield from _fill(schedule, known, range(1, sections - 1))


def _sampling(schedule: Schedule, known: _Known, section: int, *, gap: int | None = None) -> Sampling:
    """Plan `section` with what is known, then count it as known. `gap` overrides the distance to the past."""
    target = known.target(section)
    newest, following = known.newest_before(section), known.first_after(section)
    before = target[0] - newest - 1 if gap is None else gap
    after = following - target[-1] - 1 if following is not None else 0
    places = lay_out(schedule, before=before, after=after)
    context = [place for place in places if place.role != "target"]
    (aim,) = (place for place in places if place.role == "target")
    views = _views(schedule, known, context, newest=newest, following=following)
    known.add(section)
    return Sampling(tuple(target), aim.indices, views, _tail(schedule, known, views))


def _views(
    schedule: Schedule, known: _Known, places: Sequence[Place], *, newest: int, following: int | None
) -> tuple[View, ...]:
    is_inverted = schedule.form == "inverted"
    moving = schedule.start + schedule.recent if is_inverted else schedule.recent
    past = newest + 1 - sum(segment.frames for segment in moving)
    cursors = {"start": 0, "recent": past, "future": known.length if following is None else following}
    views = []
    for place in places:
        frames = place.segment.frames
        # the inverted start is the newest given latent: the video it goes on from, or the start image
        role = "recent" if is_inverted and place.role == "start" else place.role
        if role == "recalled":
            views.append(View(place, (EMPTY,) * frames))
            continue
        views.append(View(place, known.sources(range(cursors[role], cursors[role] + frames))))
        cursors[role] += frames
    return tuple(views)


def _tail(schedule: Schedule, known: _Known, views: Sequence[View]) -> Tail:
    """What lies beyond the slots: between start and recent slots, or right of the future ones if inverted."""
    if schedule.tail not in ("ta", "tc"):
        return Tail()
    if schedule.form == "inverted":
        last, index = views[-1].sources[-1], views[-1].place.indices[-1]
        sources = range(last + 1, known.length) if last != EMPTY else range(0)
        return Tail(sources, range(index + 1, index + 1 + len(sources)))
    recent = [view for view in views if view.place.role == "recent"]
    if not recent or recent[0].sources[0] == EMPTY:
        return Tail()
    first, index = recent[0].sources[0], recent[0].place.indices[0]
    sources = range(max(known.run_start(first), sum(segment.frames for segment in schedule.start)), first)
    return Tail(sources, range(index - len(sources), index))
