"""Placements from numbers: what fits is the quickest that does, and what does not is refused with what would."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.placement.cards import GB, RATED
from model.placement.describe import describe
from model.placement.plan import QUANTIZED, DoesNotFitError, decide, decide_first, kept_bytes, plans

from . import bodies

sizes = st.floats(0.1, 80)


def card(gigabytes: float, *, host: float = 64):
    return replace(bodies.CARD, memory=int(gigabytes * GB), host_memory=int(host * GB))


def test_a_large_card_keeps_everything() -> None:
    plan = decide(bodies.round_numbers(), card(80))
    assert not plan.streamed and not plan.tiles
    assert plan.peak_device == pytest.approx(0.6e9 + 42.5e9 + 1.08 * 12e9, rel=0.01)


@pytest.mark.parametrize(
    ("gigabytes", "streamed", "tiles"),
    [
        (57, set(), False),
        (50, {"text"}, False),
        (30, {"text"}, True),
        (24, {"text", "vae", "transformer"}, False),
        (6, {"text", "vae", "transformer"}, True),
    ],
)
def test_what_does_not_fit_is_streamed_the_seldom_used_first(gigabytes: float, streamed: set, tiles: bool) -> None:
    plan = decide(bodies.round_numbers(), card(gigabytes))
    assert (plan.streamed, plan.tiles) == (streamed, tiles)


@given(sizes, sizes, sizes, st.sampled_from(QUANTIZED))
def test_a_plan_fits_and_no_other_that_does_is_quicker(memory, transformer, activations, quantized) -> None:
    anatomy = bodies.round_numbers(transformer=transformer, activations=activations)
    tried = list(plans(anatomy, card(memory), quantized=quantized))
    try:
        plan = decide(anatomy, card(memory), quantized=quantized)
    except DoesNotFitError as refused:
        assert not any(plan.fits for plan in tried)
        assert refused.plan is None or refused.plan.fits
    else:
        assert plan.fits and plan.section_seconds == min(other.section_seconds for other in tried if other.fits)


@given(sizes, sizes)
def test_more_memory_is_never_slower(memory, more) -> None:
    times = []
    for size in (memory, memory + more):
        try:
            times.append(decide(bodies.round_numbers(), card(size)).section_seconds)
        except DoesNotFitError:
            times.append(float("inf"))
    assert times[1] <= times[0]


def test_decoding_aside_needs_room_for_both() -> None:
    """Of 12 GB to decode and 2 to denoise."""
    plan = decide(bodies.round_numbers(), card(80))
    assert plan.can_decode_aside
    assert plan.peak_aside == pytest.approx(plan.peak_device + 1.08 * 2e9, rel=0.001)
    assert not decide(bodies.round_numbers(), card(57)).can_decode_aside


def test_a_step_takes_as_long_as_the_slower_of_computing_and_copying() -> None:
    quick = replace(card(6), flops=1e18)
    plan = decide(bodies.round_numbers(), quick)
    assert plan.pinned and plan.step_seconds == pytest.approx(1.05 * 26e9 / 20e9)
    slow = decide(bodies.round_numbers(), replace(quick, flops=1e12))
    assert slow.step_seconds == pytest.approx(1.05 * 500 / 0.7)
    tight = decide(bodies.round_numbers(), replace(quick, host_memory=32 * GB))
    assert not tight.pinned and tight.step_seconds == pytest.approx(1.05 * 26e9 / 20e9 / 0.3)
    assert not tight.fits_host and "read from the disk" in describe(tight)


def test_it_is_refused_with_the_plan_that_would_fit() -> None:
    anatomy = bodies.round_numbers(activations=30)
    smaller = [(f"{size} GB less", bodies.round_numbers(activations=30 - size)) for size in (10, 22, 29)]
    with pytest.raises(DoesNotFitError, match=r"expected \d+\.\d GB .* got 12.0 GB; 22 GB less would take") as refused:
        decide(anatomy, card(12), smaller=smaller)
    assert refused.value.plan is not None and refused.value.plan.fits
    assert refused.value.needed > 30 * GB
    with pytest.raises(DoesNotFitError, match="nothing that is offered") as refused:
        decide(anatomy, card(1), smaller=smaller)
    assert refused.value.plan is None


def test_the_first_work_that_fits_is_planned_and_the_last_refused() -> None:
    seen = []

    def works():
        for activations in (30, 2, 1):
            seen.append(activations)
            yield bodies.round_numbers(activations=activations)

    assert decide_first(works(), card(12)).peak_device < 12 * GB
    assert seen == [30, 2]
    with pytest.raises(DoesNotFitError, match=r"expected 2.9 GB"):
        decide_first(works(), card(2))


def test_what_cannot_be_streamed_is_refused_in_favour_of_what_can() -> None:
    with pytest.raises(DoesNotFitError, match="not quantizing would take"):
        decide(bodies.round_numbers(), card(8), quantized="nf4")


def test_quantizing_shrinks_products_only() -> None:
    transformer = bodies.round_numbers().parts["transformer"]
    kept = [kept_bytes(transformer, quantized) for quantized in QUANTIZED]
    assert kept[0] == transformer.num_bytes and kept[1] == kept[2]
    assert kept[1] == pytest.approx(transformer.num_bytes * (1 - 0.95 / 2))
    assert kept[3] == pytest.approx(transformer.num_bytes * (1 - 0.95 * (2 - 0.5625) / 2))


def test_every_rated_card_of_the_table_plays() -> None:
    anatomy = bodies.round_numbers()
    found = {size: decide(anatomy, rated) for size, rated in RATED.items()}
    assert sorted(found) == [6, 8, 12, 16, 24]
    assert all("transformer" in plan.streamed for plan in found.values())


def test_a_plan_says_what_goes_where() -> None:
    text = describe(decide(bodies.round_numbers(), card(30), quantized="fp8"))
    assert "transformer (13.00 B parameters, fp8): 13.7 GB on the card" in text
    assert "text (8.00 B parameters): 16.0 GB in the machine's memory, streamed with" in text
    assert "36 frames" in text
