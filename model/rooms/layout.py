"""Which slots of a history each patchify kernel of `rooms` takes, as a schedule of the paper's grammar says.

Slots stand as in `History`: the start, recalled latents (best first), recent ones (oldest first). Plans out of time's
order add future ones (nearest first) and the tail. There is a slot for the start even where a schedule shows none.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..packing.layout import Place, Role, lay_out
from ..packing.schedule import Kernel, Schedule, Segment

TAIL = "tail_"  # before the name of the kernel that packs it


class LayoutError(ValueError):
    """A schedule that latents of this size, or live play, cannot follow."""


class Group(NamedTuple):
    """A context group: slots of the history that one patchify kernel takes together."""

    kind: str  # names the kernel's weights: start, s2, k4, ...
    slots: tuple[int, ...]


class Layout(NamedTuple):
    """The slots of a schedule, by their number, and the groups in the schedule's order."""

    starts: int
    recalled: int
    recent: int
    future: int
    groups: tuple[Group, ...]
    kernels: dict[str, Kernel]  # of each kind

    @property
    def first_recent(self) -> int:
        return self.starts + self.recalled

    @property
    def slots(self) -> int:
        return self.first_recent + self.recent + self.future


def layout_of(schedule: Schedule, *, size: int) -> Layout:
    """Lay out `schedule` on latents of `size` x `size`; raises LayoutError for kernels that do not divide these."""
    counts: dict[Role, int] = dict.fromkeys(("start", "recalled", "recent", "future"), 0)
    places = [replace(place, role=role_of(schedule, place)) for place in lay_out(schedule) if place.role != "target"]
    for place in places:
        counts[place.role] += place.segment.frames
    starts = max(1, counts["start"])
    cursors = {"start": 0, "recent": starts + counts["recalled"]}
    cursors["future"] = cursors["recent"] + counts["recent"]
    best_first = _recalled_slots([place.segment for place in places if place.role == "recalled"], first=starts)
    groups: list[Group] = []
    kernels: dict[str, Kernel] = {}
    for place in places:
        segment, kind = place.segment, kind_of(place.segment, place.role)
        _check(schedule, segment, size)
        kernels[kind] = segment.kernel
        if place.role == "recalled":
            slots: Sequence[int] = next(best_first)
        else:
            slots = range(cursors[place.role], cursors[place.role] + segment.frames)
            cursors[place.role] += segment.frames
        period = segment.kernel[0]
        groups += [Group(kind, tuple(slots[i : i + period])) for i in range(0, len(slots), period)]
    if schedule.tail in ("ta", "tc"):
        nearest = kind_of(schedule.tail_segment, "recent")
        kernels |= {nearest: schedule.tail_segment.kernel, TAIL + nearest: schedule.tail_segment.kernel}
    return Layout(starts, counts["recalled"], counts["recent"], counts["future"], tuple(groups), kernels)


def role_of(schedule: Schedule, place: Place) -> Role:
    """What a place's latents are to `rooms`: the start of the inverted order is the newest latents there are."""
    return "recent" if schedule.form == "inverted" and place.role == "start" else place.role


def tail_groups(schedule: Schedule, slots: Sequence[int]) -> list[Group]:
    """Groups of what has left the slots: a token for each latent (ta), or one for all (tc)."""
    kind = TAIL + kind_of(schedule.tail_segment, "recent")
    if schedule.tail == "ta":
        return [Group(kind, (slot,)) for slot in slots]
    return [Group(kind, tuple(slots))] if schedule.tail == "tc" and slots else []


def kind_of(segment: Segment, role: Role) -> str:
    """The name of a segment's weights: a start has its own, and a kernel one name however it is written."""
    if segment.is_recalled:
        return segment.kernel_name
    t, h, w = segment.kernel
    name = f"k{t}" if h == w == 2 * t else f"k{t}h{h}w{w}"
    if role != "start":
        return name
    return "start" if name == "k1" else f"start_{name}"


def check_live(schedule: Schedule) -> None:
    """Raise LayoutError for what play cannot follow: it goes forward latent by latent, and keeps no tail."""
    layout_starts = sum(segment.frames for segment in schedule.start)
    is_playable = schedule.form == "vanilla" and schedule.target == 1 and layout_starts <= 1
    if not is_playable or schedule.tail in ("ta", "tc") or not schedule.recent:
        raise LayoutError(
            "expected a vanilla schedule with at most one start frame, some recent ones, the target g1 and no tail "
            f"but td to play by, got {schedule}"
        )


def _recalled_slots(segments: Sequence[Segment], *, first: int) -> Iterator[Sequence[int]]:
    """Slots of the recalled segments, in the schedule's order; the finer a kernel, the better what it gets."""
    slots: dict[int, Sequence[int]] = {}
    for i in sorted(range(len(segments)), key=lambda i: math.prod(segments[i].kernel)):
        slots[i] = range(first, first + segments[i].frames)
        first += segments[i].frames
    return (slots[i] for i in range(len(segments)))


def _check(schedule: Schedule, segment: Segment, size: int) -> None:
    t, h, w = segment.kernel
    if segment.frames % t or any(side % 2 or size % side for side in (h, w)):
        raise LayoutError(
            f"expected kernels that divide latents of {size} x {size} and whole groups of frames, "
            f"got {segment} in {schedule}"
        )
