"""FramePack's families of schedules and the arithmetic behind them (arXiv 2504.12626 v3, section 3.1)."""

from fractions import Fraction
from math import floor
from types import MappingProxyType

from .schedule import BASE, Grid, Kernel, Schedule, Segment

# The paper draws six families (Fig. 1c) but prints a name for few of them; the others are our reading of the drawing.
PRESETS = MappingProxyType(
    {
        # one frame per level, each level half of the one before: Eq. 1 with lambda 2
        "geometric": "td_f1k1h16w16f1k1h8w16f1k1h8w8f1k1h4w8f1k1h4w4f1k1h2w4f1k1_g9",
        # every compressed level holds two frames, each with tokens of its own
        "temporal-level-duplication": "td_f2k1h16w16f2k1h8w8f2k1h4w4f1k1_g9",
        # the 1/4 term of the series stands twice, as f2k2 and as f16k4: the released models
        "level-duplication": "td_f16k4f2k2f1k1_g9",
        # each level merges its contiguous frames into one tensor
        "temporal-kernel": "td_f8k8f4k4f2k2f1k1_g9",
        # the first frame in full, pinned
        "important-start": "td_f1k1f16k4f2k2f1k1_g9",
        # start and end alike
        "symmetric": "td_f1k1f2k2f16k4f2k2f1k1_g9",
    }
)


class RateError(ValueError):
    """A rate or a budget that no schedule has."""


def preset(family: str, *, base: Kernel = BASE) -> Schedule:
    """The schedule of one of PRESETS; KeyError for a name that is none."""
    return Schedule.parse(PRESETS[family], base=base)


def sliding_window(budget: int, *, grid: Grid, target: int = 9, base: Kernel = BASE) -> Schedule:
    """The baseline without compression: as many whole newest frames as fit `budget` tokens on latents of `grid`."""
    frame = Segment(1, "k1", base).tokens(grid)
    if budget < frame:
        raise RateError(f"expected a budget of at least one frame, {frame} tokens, got {budget}")
    return Schedule.parse(f"td_f{budget // frame}k1_g{target}", base=base)


def context_length(history: int, *, target: int, ratio: float = 2.0) -> float:
    """Eq. 2: the context in units of L_f, for `history` latents compressed by `ratio`^i and `target` whole ones."""
    return target + (1 - ratio**-history) / (1 - 1 / ratio)


def context_bound(target: int, *, ratio: float = 2.0) -> float:
    """The limit of Eq. 2 for an endless history, S + lambda / (lambda - 1), in units of L_f."""
    return target + 1 / (1 - 1 / ratio)


def expand_rate(rate: float | Fraction, *, levels: int) -> tuple[int, ...]:
    """How often each term of 1 + 1/2 + 1/4 + ... stands in a history that costs `rate` times L_f.

    The plain series costs 2 (its last of `levels` terms twice); the binary digits of the distance from 2 say which
    terms to add or to drop: 2.625 has 1/2 and 1/8 twice. Rates between multiples of 2^(1-levels) are rounded down.
    """
    if not (levels >= 1 and 0 < rate):
        raise RateError(f"expected a rate above 0 and at least one level, got rate {rate} and {levels} levels")
    unit = 2 ** (levels - 1)
    counts = [1] * levels
    counts[-1] += 1
    distance = floor(Fraction(rate) * unit) - 2 * unit
    sign = 1 if distance >= 0 else -1
    for level in range(levels):
        digit, distance = divmod(abs(distance), 2 ** (levels - 1 - level))
        counts[level] += sign * digit
    if min(counts) < 0 or sum(counts) == 0:
        raise RateError(f"expected a rate of at least {1 / unit} with {levels} levels, got {rate}")
    return tuple(counts)


def rate_schedule(rate: float | Fraction, *, levels: int = 7, target: int = 9, base: Kernel = BASE) -> Schedule:
    """A schedule whose history costs `rate` times L_f: level i packs single frames at 2^-i, by width then height."""
    name = ""
    for level, frames in enumerate(expand_rate(rate, levels=levels)):
        t, h, w = base[0], base[1] * 2 ** (level // 2), base[2] * 2 ** ((level + 1) // 2)
        if frames:
            name = f"f{frames}k{t}h{h}w{w}" + name
    return Schedule.parse(f"td_{name}_g{target}", base=base)
