"""When a session's frames are shown and when its next section has to begin; never a burst, never early."""

from collections import deque
from statistics import median

_MEASURED = 9  # sections whose times make the estimate; the median forgives single hiccups
_FORGIVEN = 0.5  # of a frame's time: a section so late does not slow the frames after it


class Pacer:
    """A monotonic schedule for the frames of one session, at the model's frame rate or evenly below it.

    The caller begins a section at `begin_at` (the later it binds the controls, the fresher they are),
    and asks `release` for the times of its frames when they are ready. If it is decoded aside, `hand_on`
    says when the next one may begin. Sections that are late by less than `_FORGIVEN` of a frame are
    caught up with; after longer waits the schedule starts anew.
    """

    def __init__(self, *, frame_rate: float, num_frames: int, now: float) -> None:
        """`num_frames` to a section; `now` and all other times in seconds on one monotonic clock."""
        self._shortest = 1.0 / frame_rate
        self._num_frames = num_frames
        self._waits: deque[float] = deque(maxlen=_MEASURED)  # until its frames are ready
        self._laps: deque[float] = deque(maxlen=_MEASURED)  # until the next one may begin
        self.restart(now)

    def restart(self, now: float) -> None:
        """Begin anew after a pause, keeping what is known about the model's speed."""
        self._ready = now
        self._next = now
        self._num_ahead = 0
        self._anew = True

    @property
    def lead(self) -> float:
        """Seconds that a section is expected to take from when it may begin until it is ready."""
        return median(self._waits) if self._waits else 0.0

    @property
    def period(self) -> float:
        """Seconds from frame to frame: what the model's speed allows."""
        return max(self._shortest, median(self._laps) / self._num_frames) if self._laps else self._shortest

    @property
    def deadline(self) -> float:
        """When the next section's first frame would be due at the model's own rate.

        It knows nothing of this session's slowness: of those who share a model, who is served late must not have to
        wait even longer for it.
        """
        return self._ready + self._num_frames * self._shortest

    @property
    def begin_at(self) -> float:
        """When to begin the next section, so that it is ready just in time."""
        return max(self._ready, self._next + self._num_ahead * self.period - self.lead)

    def hand_on(self, now: float, *, begun: float) -> None:
        """The section begun last, at `begun` as `begin_at` was then, is decoded aside; the next one may begin."""
        self._laps.append(now - begun)
        self._ready = now
        self._num_ahead = self._num_frames

    def release(self, now: float, *, begun: float | None = None) -> list[float]:
        """The section begun last is ready: when to show each of its frames, evenly spaced, none in the past.

        One that was handed on is ready with what `hand_on` was told of as `begun`.
        """
        if begun is None:
            begun = self.begin_at
            self._laps.append(now - begun)
            self._ready = now
        self._waits.append(now - begun)
        self._num_ahead = 0
        period = self.period
        if self._anew or now - self._next > _FORGIVEN * period:
            self._next, self._anew = now, False
        due = self._next
        self._next = due + self._num_frames * period
        first = max(now, due)
        gap = (self._next - first) / self._num_frames
        return [first + i * gap for i in range(self._num_frames)]
