"""Where a schedule's slots stand in time: the RoPE index of every frame of the context and of the target."""

from dataclasses import dataclass
from typing import Literal

from .schedule import Schedule, Segment

Role = Literal["start", "recalled", "recent", "target", "future"]


@dataclass(frozen=True, slots=True)
class Place:
    """One segment with the indices of its frames, in time's order; recalled frames bring their own at run time."""

    role: Role
    segment: Segment
    indices: tuple[int, ...]


def lay_out(schedule: Schedule, *, before: int = 0, after: int = 0) -> tuple[Place, ...]:
    """Number the frames from 0 as the name reads, skipping `before` indices left of the target and `after` right of it.

    These are FramePack's own indices. The start stays at 0 however long the history grows: positions are relative.
    """
    target = Segment(schedule.target, "k1", schedule.base)
    start, recalled, recent = schedule.start, schedule.recalled, schedule.recent
    groups: tuple[tuple[Role, tuple[Segment, ...], int], ...] = (
        ("start", start, 0),
        ("recalled", recalled, 0),
        ("recent", recent, 0),
        ("target", (target,), before),
        ("future", schedule.future, after),
    )
    places, index = [], 0
    for role, segments, skipped in groups:
        index += skipped
        for segment in segments:
            places.append(Place(role, segment, tuple(range(index, index + segment.frames))))
            index += segment.frames
    return tuple(places)
