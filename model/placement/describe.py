"""A plan in words, for the log and the terminal."""

from collections.abc import Iterator

from .plan import Plan


def describe(plan: Plan) -> str:
    """Lines of text: what goes where, and what it will take."""
    return "\n".join(_lines(plan))


def _lines(plan: Plan) -> Iterator[str]:
    yield f"{plan.card.name}: {gigabytes(plan.card.memory)} free, {plan.card.flops / 1e12:.0f} TFLOPS"
    for placed in plan.placed:
        kind = f", {plan.quantized}" if plan.quantized and placed.part.name == "transformer" else ""
        where = f"{gigabytes(placed.device_bytes)} on the card"
        if placed.how == "streamed":
            where = f"{gigabytes(placed.host_bytes)} in the machine's memory, streamed with {where}"
        yield f"  {placed.part.name} ({placed.part.num_parameters / 1e9:.2f} B parameters{kind}): {where}"
    tiles = ", decoded in tiles" if plan.tiles else ""
    peaks = gigabytes(plan.peak_device), gigabytes(plan.peak_host)
    yield f"  peak {peaks[0]} on the card{tiles}, {peaks[1]} in the machine's memory"
    if not plan.fits_host:
        free = gigabytes(plan.card.host_memory)
        yield f"  of that only {free} is free: weights will be read from the disk at every step"
    yield (
        f"  {plan.step_flops / 1e12:.0f} TFLOP and {plan.step_seconds:.2f} s for a step, {plan.section_seconds:.0f} s "
        f"for a section of {plan.section_frames} frames, {plan.frame_seconds:.2f} s for a frame"
    )


def gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
