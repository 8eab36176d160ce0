"""The rows of FramePack's tables at our scale (arXiv 2504.12626 v3), with the figures that were published for them.

Published figures are of a 13 B model on 30 s clips: drift in per cent of MUSIQ's clarity, and ELO by people. Ours are
of other measures on another model; what can be compared is the order of the rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from ..packing.families import PRESETS
from ..packing.schedule import Schedule

Part = Literal["schedules", "alternatives", "codebooks"]
PARTS: tuple[Part, ...] = ("schedules", "alternatives", "codebooks")
ENTRIES = (8, 32, 128, 512)  # of codebooks, K
USUAL = 128  # the paper's K
AHEAD = 8  # frames of which the inverted order makes the last first

RELEASED = "td_f16k4f2k2f1k1_g1"
WINDOW = "td_f3k1_g1"
SCHEDULES = {
    **{family: str(replace(Schedule.parse(name), target=1)) for family, name in PRESETS.items()},
    "sliding window": WINDOW,
    "compressed tail": "tc_f16k4f2k2f1k1_g1",
    "appended tail": "ta_f16k4f2k2f1k1_g1",
}


class Variant(NamedTuple):
    """A fine-tuning that rows take: what `rewander train lora --model rooms` is asked for."""

    schedules: tuple[str, ...]
    steps: int
    entries: int = 0  # of the codebook, for +D
    noise: float = 0.0  # on the history


class Published(NamedTuple):
    """What the paper prints, as far as we could find it."""

    clarity_drift: float | None = None  # per cent
    dynamic: float | None = None  # per cent
    elo: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One variant: how the history is shown and in which order frames are made."""

    part: Part
    name: str
    schedule: str  # as the paper would write it, +D included
    order: Literal["vanilla", "inverted"] = "vanilla"
    alternative: Literal["", "repeat", "anchors"] = ""
    entries: int = 0  # of the codebook, for +D
    noise: float = 0.0  # on the history
    guidance: float = 1.0
    pictures: bool = True  # the history's pictures are treated like its tokens
    ahead: int = AHEAD
    recalls: bool = False
    variants: tuple[str, ...] = ("",)  # fine-tunings that it takes, the first there is; "" is none
    published: Published = Published()
    note: str = ""

    def doing(self) -> "Row":
        """What is run for it: rows that differ in their words alone share one run."""
        return replace(self, part="schedules", name="", variants=(), published=Published(), note="")


def rows(parts: tuple[Part, ...] = PARTS) -> list[Row]:
    """All rows of some parts."""
    made = {"schedules": _schedules, "alternatives": _alternatives, "codebooks": _codebooks}
    return [row for part in parts for row in made[part]()]


def variants() -> dict[str, Variant]:
    """All that some row takes, by name. No tail is shown in training: a tail's rows take what others have learnt."""
    plain = [schedule for schedule in SCHEDULES.values() if Schedule.parse(schedule).tail in ("", "td")]
    both = dict.fromkeys([*plain, *(mirrored(schedule) for schedule in plain)])
    made = {
        "schedules": Variant(tuple(both), 140),
        "schedules-discrete": Variant(tuple(f"{schedule}+D" for schedule in plain), 140, entries=USUAL),
        "noise": Variant((WINDOW,), 80, noise=0.5),
    }
    return made | {f"discrete-{size}": Variant((RELEASED + "+D",), 80, entries=size) for size in ENTRIES}


def mirrored(schedule: str) -> str:
    """The inverted form of a vanilla schedule: its recent slots, and the same again on the far side of the target."""
    parsed = Schedule.parse(schedule)
    return f"{_text(parsed.recent)}_x_g{parsed.target}_{_text(parsed.recent[::-1])}_td"


def _text(segments: tuple[object, ...]) -> str:
    return "".join(map(str, segments))


def _schedules() -> Iterator[Row]:
    """Table 1: schedules, each as it is, with +D and inverted."""
    published = {
        "level-duplication": (Published(3.18, elo=1074), Published(2.30, elo=1222)),
        "temporal-kernel": (Published(3.25, elo=1090), Published(2.43, elo=1225)),
    }
    for name, schedule in SCHEDULES.items():
        plain, discrete = published.get(name, (Published(), Published()))
        yield Row("schedules", name, schedule, variants=("schedules", ""), published=plain)
        row = Row("schedules", f"{name}+D", schedule + "+D", entries=USUAL, published=discrete)
        yield replace(row, variants=("schedules-discrete", ""))
        if "tail" not in name:
            note = "of all inverted schedules the paper prints 2.18 to 2.35, and ELO 1220 to 1232"
            if Schedule.parse(schedule).start:
                note = "the inverted order pins no start, so this is the same as without it"
            row = Row("schedules", f"{name} inverted", mirrored(schedule), order="inverted")
            yield replace(row, variants=("schedules", ""), note=note)


def _alternatives() -> Iterator[Row]:
    """Table 2, whose baselines have a naive sliding window; ours has more tokens than what it is compared with."""
    part: Part = "alternatives"
    yield Row(part, "repeated image-to-video", WINDOW, alternative="repeat", published=Published(9.51, 91.21, 1015))
    yield Row(part, "anchor frames", WINDOW, alternative="anchors", published=Published(2.85, 74.97, 1173))
    yield Row(
        part,
        "causal attention",
        WINDOW,
        published=Published(7.45, 88.27, 1087),
        note="no change here: context tokens never attend to the target or to what comes later, so that their keys "
        "and values can be kept; this is the plain sliding window",
    )
    for sigma, published in ((0.0, (8.41, None, 1095)), (0.1, (4.84, 91.59, 1170)), (0.5, (3.55, 91.08, 1174))):
        for variant, name in (("noise", "noise-trained"), ("", "as trained")):
            yield Row(
                part,
                f"noise {sigma:g}, {name}",
                WINDOW,
                noise=sigma,
                variants=(variant,),
                published=Published(*published),
                note="" if variant else "the weights have met noise up to 0.3 on half of their histories",
            )
    yield Row(
        part,
        "history guidance 1.5",
        WINDOW,
        guidance=1.5,
        published=Published(7.35, 73.39, 1152),
        note="of the packed history; the picture that is carried to the target is in both halves",
    )
    best = Published(2.25, 89.29, 1220)
    inverse = Row(part, "inverted", mirrored(RELEASED), order="inverted", published=best)
    yield inverse
    yield replace(inverse, name="inverted, 24 ahead", ahead=24)
    discrete = Row(part, "+D", RELEASED + "+D", entries=USUAL, published=Published(3.13, 91.74, 1224))
    yield replace(discrete, variants=("discrete-128",), note="the paper's row is labelled K=256, its text says 128")
    yield replace(discrete, name="+D, untrained", note="a negative control")
    yield replace(
        discrete, name="+D, tokens only, untrained", pictures=False, note="the carried picture stays as it was made"
    )
    yield Row(part, "vanilla", RELEASED, published=Published(3.18, elo=1074))
    yield Row(
        part,
        "shipped, with recall",
        "f1k1f4s2f1s1f16k4f2k2f1k1_g1",
        recalls=True,
        note="what `rewander play` does, with memory",
    )


def _codebooks() -> Iterator[Row]:
    """The sweep over K, for which the paper's figures are in a supplement that we could not find."""
    for entries in ENTRIES:
        row = Row("codebooks", f"K={entries}", RELEASED + "+D", entries=entries)
        yield replace(row, variants=(f"discrete-{entries}",))
        yield replace(row, name=f"K={entries}, untrained")
    yield Row("codebooks", "none", RELEASED)
