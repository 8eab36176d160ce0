"""The rows of the recall table: what is asked, how much is shown and what is kept, one change each."""

from dataclasses import dataclass, replace
from typing import Literal

from memory_bank import Tuning
from model.rooms.world import SCHEDULE

from .rivals import KEEP_ALL, POLICIES, Policy

Part = Literal["sources", "queries", "hybrid", "tuning", "slots", "keeping"]
Retold = Literal["", "one age", "codebook", "noise"]

TITLES: dict[Part, str] = {
    "sources": "What is recalled",
    "queries": "What is asked",
    "hybrid": "FramePack's Eq. 5, asked with the newest latent",
    "tuning": "How much of what there is",
    "slots": "How many memories, in which form",
    "keeping": "What is kept, and how it is told",
}
FINE = "f1k1f5s1f16k4f2k2f1k1_g1"
COARSE = "f1k1f5s2f16k4f2k2f1k1_g1"
MANY = "f1k1f8s2f16k4f2k2f1k1_g1"
NOISE = 0.1
ENTRIES = 128  # of the codebook
OURS = "ours"


@dataclass(frozen=True, slots=True)
class Row:
    """One way to remember and recall."""

    part: Part
    name: str
    policy: Policy | None  # None recalls nothing
    schedule: str = SCHEDULE
    retold: Retold = ""  # how the model is shown its memories, "" for as they are
    note: str = ""

    def doing(self) -> "Row":
        """What is run for it: rows that differ in their words alone share one run."""
        return replace(self, part="sources", name="", note="")


def rows() -> list[Row]:
    """All of them; the first is what a session does, to which the others are compared."""
    ours = POLICIES[OURS]
    return [
        Row("sources", OURS, ours, note="what shows most of where the controls lead; five memories, first write wins"),
        Row("sources", "oracle", replace(ours, knows_poses=True), note="true poses of memories and of what comes"),
        Row("sources", "off", None),
        Row("sources", "recency", POLICIES["recent"]),
        Row("sources", "random", POLICIES["random"]),
        Row("sources", "log-spaced", POLICIES["log"]),
        Row(
            "queries", "sequel", Policy("sequel", novelty=None), note="what followed the places that look like this one"
        ),
        Row("queries", "nearest pose", POLICIES["pose"], note="walls and what each memory shows are not known"),
        Row("queries", "newest latent", Policy("similar", novelty=None), note="what looks most like it"),
        Row(
            "queries",
            "draft",
            Policy("draft", novelty=None),
            note="what looks most like the coming frame, which one denoise step makes without memories",
        ),
        *(
            Row("hybrid", f"lambda {weight:g}", replace(POLICIES["hybrid"], tuning=Tuning(lambda_time=weight)))
            for weight in (0.0, 0.5, 2.0)
        ),
        *(Row("tuning", f"{seconds:g} s ahead", replace(ours, lookahead=seconds)) for seconds in (0.0, 2.0)),
        *(
            Row("slots", f"{num} memor{'y' if num == 1 else 'ies'}", replace(ours, num=num), note=note)
            for num, note in ((1, "in full"), (2, "one in full, the rest at 2x2"), (3, ""))
        ),
        Row("slots", "all in full", ours, FINE, note="ours shows one in full and four at 2x2"),
        Row("slots", "all at 2x2", ours, COARSE),
        Row("slots", "8 memories at 2x2", ours, MANY, note="as many tokens as ours"),
        Row("keeping", "keep all", replace(ours, novelty=KEEP_ALL)),
        Row("keeping", "last write wins", replace(ours, keeps_last=True)),
        Row("keeping", "one age", ours, retold="one age", note="told as 17 to 21 frames old, whatever their age"),
        Row("keeping", "discretized", ours, retold="codebook", note=f"{ENTRIES} entries, which no training has met"),
        Row("keeping", "noisy", ours, retold="noise", note=f"sigma {NOISE}"),
    ]
