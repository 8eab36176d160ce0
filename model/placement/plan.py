"""Where a model's parts live, decided once: everything on the card, or streamed to it as it is needed, or refused.

Streamed weights stay in the machine's memory; a block's are copied while the block before it computes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from .anatomy import Anatomy, Part
from .cards import GB, Card

Quantized = Literal["", "fp8", "int8", "nf4"]
How = Literal["resident", "streamed"]

QUANTIZED: tuple[Quantized, ...] = ("", "fp8", "int8", "nf4")
BYTES_PER_WEIGHT: Mapping[Quantized, float] = {"": 2.0, "fp8": 1.0, "int8": 1.0, "nf4": 0.5625}  # scales included
STREAMABLE: frozenset[Quantized] = frozenset(("", "fp8"))
CONTEXT_BYTES = 600 * 10**6  # of CUDA itself with its libraries' workspaces
SLACK = 1.08  # what the allocator loses between its blocks
UTILISATION = 0.7  # of the rated operations: users report 0.64 (RTX 3060), 0.75 (3090) and 0.88 (4090)
STREAMED_STEP = 1.05  # what a step takes when copies are hidden: blocks wait for each other
ENCODE_BYTES = 400 * 10**6  # of what an encoder works on
PAGEABLE = 0.3  # the share of the copy rate that is left when memory is page-locked as it is copied
PINNED_SHARE = 0.75  # of the machine's free memory, at most
BUSY = frozenset(("transformer", "vae"))  # streamed all the time; the others when a prompt or a start is new
HOST_BYTES = 3 * 10**9  # of Python and its libraries


class DoesNotFitError(ValueError):
    """No placement fits. `needed` bytes would; so would `plan`, as the message says, or None."""

    def __init__(self, message: str, *, needed: int, plan: "Plan | None") -> None:
        super().__init__(message)
        self.needed, self.plan = needed, plan


@dataclass(frozen=True, slots=True)
class Placed:
    """A part and where it lives."""

    part: Part
    how: How
    device_bytes: int  # while it computes
    host_bytes: int  # kept in the machine's memory


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes where, and what follows."""

    card: Card
    placed: tuple[Placed, ...]
    quantized: Quantized
    tiles: bool  # the VAE decodes tile by tile
    pinned: bool  # weights that are streamed all the time are page-locked beforehand
    peak_device: int
    peak_aside: int  # of the device, if a section is decoded while the next is denoised
    peak_host: int
    step_flops: float
    step_seconds: float
    section_seconds: float
    section_frames: int  # of all sessions
    batch: int

    @property
    def fits(self) -> bool:
        return self.peak_device <= self.card.memory

    @property
    def can_decode_aside(self) -> bool:
        return self.peak_aside <= self.card.memory

    @property
    def fits_host(self) -> bool:
        """If not, streamed weights are read from the disk again and again."""
        return self.peak_host <= self.card.host_memory

    @property
    def streamed(self) -> frozenset[str]:
        return frozenset(placed.part.name for placed in self.placed if placed.how == "streamed")

    @property
    def frame_seconds(self) -> float:
        return self.section_seconds / self.section_frames


def decide(
    anatomy: Anatomy, card: Card, *, quantized: Quantized = "", smaller: Iterable[tuple[str, Anatomy]] = ()
) -> Plan:
    """The quickest placement that fits; raises DoesNotFitError with a plan that would.

    Weights are quantized only when that is asked for: it changes what is seen. `smaller` are less demanding kinds of
    work with what they are called; they are only looked at when there is nothing else to offer.
    """
    if fitting := [plan for plan in plans(anatomy, card, quantized=quantized) if plan.fits]:
        return min(fitting, key=lambda plan: plan.section_seconds)
    leanest = min(plans(anatomy, card, quantized=quantized), key=lambda plan: plan.peak_device)
    problem = f"expected {leanest.peak_device / GB:.1f} GB of free memory on {card.name}, got {card.memory / GB:.1f} GB"
    for what, offered in _offers(anatomy, card, smaller):
        if offered.fits:
            would = f"{what} would take {offered.peak_device / GB:.1f} GB"
            raise DoesNotFitError(f"{problem}; {would}", needed=leanest.peak_device, plan=offered)
    raise DoesNotFitError(f"{problem}; nothing that is offered would fit", needed=leanest.peak_device, plan=None)


def decide_first(
    anatomies: Iterable[Anatomy], card: Card, *, quantized: Quantized = "", smaller: Iterable[tuple[str, Anatomy]] = ()
) -> Plan:
    """A plan of the first of some kinds of work that fits, as of two sessions or else one; what `decide` says if none.

    They are looked at one after the other, each only if the one before does not fit.
    """
    for anatomy in anatomies:
        if any(plan.fits for plan in plans(anatomy, card, quantized=quantized)):
            break
    return decide(anatomy, card, quantized=quantized, smaller=smaller)


def plans(anatomy: Anatomy, card: Card, *, quantized: Quantized = "") -> Iterator[Plan]:
    """Every placement that makes sense, whether it fits or not; those that stream less come first."""
    others = frozenset(anatomy.parts) - {"transformer"}
    choices = [frozenset[str](), others - {"vae"}, others]
    if quantized in STREAMABLE:
        choices.append(others | {"transformer"})
    for streamed in choices:
        for tiles in (False, True):
            yield plan_of(anatomy, card, streamed=streamed, tiles=tiles, quantized=quantized)


def plan_of(anatomy: Anatomy, card: Card, *, streamed: frozenset[str], tiles: bool, quantized: Quantized) -> Plan:
    """The figures of one placement."""
    own: dict[str, Quantized] = {name: quantized if name == "transformer" else "" for name in anatomy.parts}
    pinned = sum(_pinned_bytes(anatomy.parts[name], own[name]) for name in BUSY & streamed)
    is_pinned = 0 < pinned <= PINNED_SHARE * card.host_memory
    placed = tuple(
        _place(part, own[name], is_streamed=name in streamed, is_pinned=is_pinned and name in BUSY)
        for name, part in anatomy.parts.items()
    )
    rate = card.flops * UTILISATION
    decode = anatomy.tiled if tiles else anatomy.decode
    moments = _moments(anatomy, placed, decode.peak_bytes, quantized)
    step = anatomy.step.flops / rate
    if "transformer" in streamed:
        copied = kept_bytes(anatomy.parts["transformer"], quantized) * anatomy.work.passes
        step = STREAMED_STEP * max(step, copied / card.copy_rate / (1 if is_pinned else PAGEABLE))
    return Plan(
        card=card,
        placed=placed,
        quantized=quantized,
        tiles=tiles,
        pinned=is_pinned,
        peak_device=int(_kept(placed) + max(moments)),
        peak_aside=int(_kept(placed) + moments[0] + moments[1]),
        peak_host=HOST_BYTES + sum(part.host_bytes for part in placed),
        step_flops=anatomy.step.flops,
        step_seconds=step,
        section_seconds=anatomy.work.steps * step + anatomy.work.batch * decode.flops / rate,
        section_frames=anatomy.section_frames * anatomy.work.batch,
        batch=anatomy.work.batch,
    )


def kept_bytes(part: Part, quantized: Quantized) -> int:
    """Of a part's weights; of a quantized one only the products within blocks are smaller."""
    return part.num_bytes - int(part.linear_parameters * (BYTES_PER_WEIGHT[""] - BYTES_PER_WEIGHT[quantized]))


def _place(part: Part, quantized: Quantized, *, is_streamed: bool, is_pinned: bool) -> Placed:
    kept = kept_bytes(part, quantized)
    if not is_streamed:
        return Placed(part, "resident", kept, 0)
    host = _pinned_bytes(part, quantized) if is_pinned else kept
    if part.name != "transformer":
        return Placed(part, "streamed", 2 * part.leaf_bytes, host)
    block = part.block_bytes * kept / part.num_bytes
    return Placed(part, "streamed", part.rest_bytes + int(2 * block), host)


def _pinned_bytes(part: Part, quantized: Quantized) -> int:
    return int(part.pinned_bytes * kept_bytes(part, quantized) / part.num_bytes)


def _kept(placed: tuple[Placed, ...]) -> int:
    """Bytes that are there all the time."""
    return CONTEXT_BYTES + sum(part.device_bytes for part in placed if part.how == "resident")


def _moments(
    anatomy: Anatomy, placed: tuple[Placed, ...], decode_bytes: int, quantized: Quantized
) -> tuple[float, float, float]:
    """Bytes more while it denoises, while it decodes, while it reads a prompt."""
    streamed = {part.part.name: part.device_bytes for part in placed if part.how == "streamed"}
    encoders = [size for name, size in streamed.items() if name not in ("transformer", "vae")]
    unpacked = 2 * anatomy.parts["transformer"].largest_linear if quantized else 0
    return (
        streamed.get("transformer", 0) + unpacked + anatomy.step.peak_bytes * SLACK,
        streamed.get("vae", 0) + decode_bytes * SLACK,
        max(encoders, default=0) + ENCODE_BYTES,
    )


def _offers(anatomy: Anatomy, card: Card, smaller: Iterable[tuple[str, Anatomy]]) -> Iterator[tuple[str, Plan]]:
    """What could be asked for instead, the most alike first."""
    for quantized in QUANTIZED:
        for plan in plans(anatomy, card, quantized=quantized):
            yield f"quantizing to {quantized}" if quantized else "not quantizing", plan
    for what, other in smaller:
        for plan in plans(other, card):
            yield what, plan
