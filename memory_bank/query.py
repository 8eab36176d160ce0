"""What a bank is made of, what it is asked, and what it answers: values only."""

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

NO_ID = -1  # stands where there is no entry: an id is a latent index, so never negative

ModeName = Literal["sequel", "view", "pose", "draft", "similar", "hybrid", "fov", "recent", "log", "random"]


class EntryError(ValueError):
    """An entry that the bank cannot hold."""


class QueryError(ValueError):
    """A query that lacks what its mode needs."""


class UnknownEntryError(KeyError):
    """An id that the bank does not hold (any more)."""


class PinnedEntryError(ValueError):
    """The start was to be forgotten; it is always kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseScale:
    """How far apart two poses are one unit apart: that much distance, or that much turning."""

    distance: float = 1.0  # metres
    angle: float = math.pi / 6  # radians


@dataclass(frozen=True, slots=True, kw_only=True)
class BankConfig:
    """One session's bank; everything in it is sized by this, once."""

    key_size: int  # d of a key
    latent_shape: tuple[int, int, int]  # C, h, w of a payload
    capacity: int = 4096  # entries
    num_rays: int = 0  # R of a sight; 0 where it is not known how far entries see
    rate: float = 15.0  # latents per second, so that an index is a time
    seed: int = 0  # of 'random' recall
    novelty: float = 0.97  # a key with at least this cosine to a held one is not stored; above 1 stores all
    pose_scale: PoseScale = PoseScale()

    def __post_init__(self) -> None:
        if not (self.capacity >= 2 and self.key_size >= 1 and self.rate > 0 and min(self.latent_shape) >= 1):
            raise ValueError(f"expected capacity >= 2, rate > 0 and positive sizes, got {self}")
        if self.num_rays != 0 and self.num_rays < 2:
            raise ValueError(f"expected no rays or at least 2, got {self.num_rays}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How a query is scored; the defaults are the measured ones."""

    shortlist: int = 64  # matches by key, by pose or by view that are looked at closely
    lambda_time: float = 0.5  # of Eq. 5, on the scale where Eq. 3 is a mean over pixels
    offsets: tuple[int, ...] = (4, 12)  # latents after an anchor that 'sequel' recalls
    num_anchors: int = 4  # places that 'sequel' follows
    anchor_gap: int = 30  # latents: anchors are at least this far apart, followers at most this far off
    diversity: float | None = None  # MMR's weight of relevance in [0, 1], 1 is relevance alone; None: the mode's own
    threshold: float | None = None  # top score below which recall falls back to 'log'; None: the mode's own
    view_radius: float = 4.0  # metres a camera sees in 'fov' and 'pose'; about a room, since walls are unknown

    def __post_init__(self) -> None:
        if not (self.offsets and min(self.offsets) >= 1 <= self.shortlist and self.view_radius > 0):
            raise ValueError(f"expected positive offsets, shortlist and view_radius, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Query:
    """What a session is about to need. Its context is never returned."""

    index: int  # of the latent that `key` and `latent` describe; now, for the time of Eq. 4
    key: np.ndarray  # (d,) float32, L2-normalised: the current latent's, or that of a draft of the next
    num: int  # entries wanted
    latent: np.ndarray | None = None  # (C, h, w), the X-hat of Eq. 3 for 'hybrid'
    context: frozenset[int] = frozenset()  # latent indices that the context already holds
    mode: ModeName = "sequel"
    poses: np.ndarray | None = None  # (P, 3) float: where the camera is expected, soonest first
    field_of_view: float | None = None  # radians, horizontal
    tuning: Tuning = Tuning()


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why one entry was chosen; the parts are on the scale where 1 is best, `mmr` where 1 is redundant."""

    mode: str  # 'log' where it fills up a recall of another mode
    anchor: int  # id of the entry that it followed, or NO_ID
    cos: float  # of its key with the query's
    time: float  # Eq. 4
    pose: float  # closeness to the nearest expected pose, 0 without
    mmr: float  # highest cosine with the context and the entries chosen before it, 0 if diversity was not asked

    def __str__(self) -> str:
        parts = [f"{name} {getattr(self, name):.2f}" for name in ("cos", "time", "pose", "mmr")]
        after = "" if self.anchor == NO_ID else f" after {self.anchor}"
        return f"{self.mode}{after}: {', '.join(parts)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """The answer, in order of choice: the first is the most valuable. Equal recalls compare equal."""

    ids: tuple[int, ...]
    scores: tuple[float, ...]
    why: tuple[Why, ...]
    gated: bool  # no match was good enough: these are log-spaced instead
    took_us: int = field(compare=False)


class Gathered(NamedTuple):
    """The payload of some entries, in the order asked for."""

    latents: np.ndarray  # (n, C, h, w) float16
    indices: np.ndarray  # (n,) int64: latent index in the session
    poses: np.ndarray  # (n, 3) float32: x, y in metres, heading in radians; zeros where none was given


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What a bank has done so far."""

    num_entries: int
    capacity: int
    num_refused: int  # seen before: an earlier entry stands for them
    num_evicted: int  # made room for something newer and less redundant
    num_forgotten: int
    num_bytes: int  # reserved once; pages are touched as entries come
