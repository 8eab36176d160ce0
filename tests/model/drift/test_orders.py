"""Sampling orders, against the bookkeeping of FramePack's demos written out as plain lists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.drift.orders import (
    EMPTY,
    Clip,
    OrderError,
    endpoint,
    forward,
    inverted,
    num_sections,
    paddings,
    planned,
    spread_endpoints,
)
from model.packing.schedule import Schedule

F1 = Schedule.parse("f1k1f16k4f2k2f1k1_g9")
INVERTED = Schedule.parse("f1k1_x_g9_f1k1f2k2f16k4_td")
VANILLA = Schedule.parse("td_f16k4f2k2f1k1_g9")
ENDPOINT = Schedule.parse("td_f16k4f2k2f1k1_g9_x_f1k1")
SHORT = Schedule.parse("ta_f2k1_g3_x_f1k1")


def plain(sampling):
    """(target, RoPE of the target, [(sources, RoPE)])."""
    views = [(view.sources, view.place.indices) for view in sampling.context]
    return sampling.target, sampling.indices, views


@pytest.mark.parametrize(("seconds", "sections"), [(5, 4), (60, 50), (0.1, 1), (1, 1), (120, 100)])
def test_section_counts_are_the_official_ones(seconds, sections):
    assert num_sections(seconds) == sections == max(round(seconds * 30 / 36), 1)


@given(st.integers(1, 200))
def test_paddings_are_the_official_ones(n):
    official = [3] + [2] * (n - 3) + [1, 0] if n > 4 else list(reversed(range(n)))
    assert list(paddings(n)) == official
    assert len(official) == n


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9, 30])
def test_f1_equals_the_official_history(n):
    history = [EMPTY] * 19 + [0]
    plan = list(forward(F1, Clip(n)))
    assert len(plan) == n
    for i, sampling in enumerate(plan):
        recent = history[-19:]
        target = tuple(range(1 + 9 * i, 10 + 9 * i))
        assert plain(sampling) == (
            target,
            tuple(range(20, 29)),
            [
                ((0,), (0,)),
                (tuple(recent[:16]), tuple(range(1, 17))),
                (tuple(recent[16:18]), (17, 18)),
                (tuple(recent[18:]), (19,)),
            ],
        )
        history += target


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9, 30])
def test_inverted_equals_the_official_history(n):
    history = [EMPTY] * 19
    made = []
    for sampling, padding in zip(inverted(INVERTED, Clip(n)), paddings(n), strict=True):
        pad = padding * 9
        index = [0, *range(1, pad + 29)]
        post, twice, four = history[:1], history[1:3], history[3:19]
        assert plain(sampling) == (
            tuple(sampling.target),
            tuple(index[pad + 1 : pad + 10]),
            [
                ((0,), (0,)),
                (tuple(post), (index[pad + 10],)),
                (tuple(twice), tuple(index[pad + 11 : pad + 13])),
                (tuple(four), tuple(index[pad + 13 : pad + 29])),
            ],
        )
        history = [*sampling.target, *history]
        made = [*sampling.target, *made]
    assert made == list(range(1, 1 + 9 * n))


def test_inverted_sees_an_end_frame_and_extends_a_video():
    sampling = next(inverted(INVERTED, Clip(3, given=5, ends=1)))
    assert sampling.target == tuple(range(23, 32))
    assert [view.sources for view in sampling.context] == [(4,), (32,), (EMPTY,) * 2, (EMPTY,) * 16]


def test_vanilla_starts_from_nothing_or_from_a_video():
    first, second = forward(VANILLA, Clip(2, given=0))
    assert first.target == tuple(range(9))
    assert {source for view in first.context for source in view.sources} == {EMPTY}
    assert second.context[-1].sources == (8,)
    extending = next(forward(VANILLA, Clip(1, given=30)))
    assert extending.target == tuple(range(30, 39))
    assert [view.sources[0] for view in extending.context] == [11, 27, 29]


def test_the_endpoint_order_makes_both_ends_at_once():
    plan = list(endpoint(ENDPOINT, Clip(4)))
    assert [sampling.target for sampling in plan] == [
        (*range(1, 10), *range(28, 37)),
        tuple(range(10, 19)),
        tuple(range(19, 28)),
    ]
    assert plan[0].indices == (*range(19, 28), *range(46, 55))
    assert [view.sources[-1] for view in plan[0].context] == [EMPTY, EMPTY, 0, EMPTY]
    gaps = [sampling.context[-1].place.indices[0] - sampling.indices[-1] for sampling in plan[1:]]
    assert gaps == [10, 1]
    assert {sampling.context[-1].sources for sampling in plan[1:]} == {(28,)}


def test_one_section_is_its_own_endpoint():
    (only,) = endpoint(ENDPOINT, Clip(1))
    assert only.target == tuple(range(1, 10))


def test_planned_endpoints_come_first_each_seeing_the_last():
    plan = list(planned(SHORT, Clip(6), endpoints=(2, 5)))
    assert [sampling.target[0] for sampling in plan] == [7, 16, 1, 4, 10, 13]
    past, future = plan[1].context
    assert past.sources == (8, 9)
    assert plan[1].indices[0] - past.place.indices[-1] == 16 - 9
    assert future.sources == (EMPTY,)
    past, future = plan[3].context
    assert (past.sources, future.sources) == ((2, 3), (7,))
    assert future.place.indices[0] == plan[3].indices[-1] + 1
    assert plan[4].context[1].sources == (16,)
    assert plan[4].context[1].place.indices[0] == plan[4].indices[-1] + 4


sizes = {"sections": st.integers(1, 12), "given": st.integers(0, 25), "ends": st.integers(0, 3)}
clips = st.builds(Clip, **sizes)
names = st.sampled_from(["f1k1f16k4f2k2f1k1_g9", "ta_f2k1_g1", "tc_f1k1f4s2f1s1f4k2f1k1_g3"])
future_names = st.sampled_from(["td_f16k4f2k2f1k1_g9_x_f1k1", "ta_f2k1_g3_x_f1k1", "tc_f1k1f3k2_g2_x_f2k1f2k2"])


@st.composite
def plans(draw):
    """A clip's length and section, and any order's plan of it."""
    clip, kind = draw(clips), draw(st.sampled_from(["forward", "endpoint", "planned", "inverted"]))
    if kind == "forward":
        schedule = Schedule.parse(draw(names))
        return clip, schedule, list(forward(schedule, clip))
    if kind == "inverted":
        schedule = Schedule.parse(draw(st.sampled_from(["f1k1_x_g9_f1k1f2k2f16k4_td", "f2k1_x_g2_f3k2_ta"])))
        return clip, schedule, list(inverted(schedule, clip))
    schedule = Schedule.parse(draw(future_names))
    if kind == "endpoint":
        return clip, schedule, list(endpoint(schedule, clip))
    count = draw(st.integers(1, clip.sections))
    return clip, schedule, list(planned(schedule, clip, endpoints=spread_endpoints(clip.sections, count=count)))


@given(plans())
def test_every_latent_is_made_once_and_seen_only_after(drawn):
    clip, schedule, plan = drawn
    last = clip.given + clip.sections * schedule.target
    known = {*range(clip.given), *range(last, last + clip.ends)}
    for sampling in plan:
        seen = [source for view in sampling.context for source in view.sources] + list(sampling.tail.sources)
        assert set(seen) - {EMPTY} <= known
        assert not known & set(sampling.target)
        known |= set(sampling.target)
    assert known == set(range(last + clip.ends))


@given(plans())
def test_positions_keep_the_order_of_time(drawn):
    _, schedule, plan = drawn
    for sampling in plan:
        pairs = list(zip(sampling.target, sampling.indices, strict=True))
        for view in sampling.context:
            if view.place.role != "start":
                pairs += zip(view.sources, view.place.indices, strict=True)
        pairs += zip(sampling.tail.sources, sampling.tail.indices, strict=True)
        placed = sorted((index, source) for source, index in pairs if source != EMPTY)
        assert [source for _, source in placed] == sorted({source for _, source in placed})
        if schedule.form != "inverted":  # whose distances are told short
            assert len({index - source for index, source in placed}) <= 1


@given(st.integers(0, 400), st.sampled_from(["td", "ta", "tc"]))
def test_the_tail_is_what_left_the_slots(given_latents, tail):
    schedule = Schedule.parse(f"{tail}_f1k1f16k4f2k2f1k1_g1")
    sampling = next(forward(schedule, Clip(1, given=given_latents)))
    expected = range(1, given_latents - 19) if tail != "td" and given_latents > 20 else range(0)
    assert list(sampling.tail.sources) == list(expected)
    assert list(sampling.tail.indices) == [1 - len(expected) + i for i in range(len(expected))]


def test_a_tail_ends_at_the_first_gap():
    plan = list(planned(SHORT, Clip(8), endpoints=(3, 7)))
    assert list(plan[1].tail.sources) == [10]  # of the endpoint at 10..12, slots show 11 and 12


@given(st.integers(1, 50).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_spread_endpoints_are_even_and_end_the_clip(drawn):
    sections, count = drawn
    ends = spread_endpoints(sections, count=count)
    steps = [after - before for before, after in zip((-1, *ends), ends, strict=False)]
    assert ends[-1] == sections - 1
    assert len(ends) == count
    assert max(steps) - min(steps) <= 1


def test_what_an_order_cannot_do_is_refused():
    with pytest.raises(OrderError, match="expected a schedule of inverted form for this order, got the vanilla td_"):
        inverted(VANILLA, Clip(2))
    with pytest.raises(OrderError, match="endpoint form"):
        endpoint(VANILLA, Clip(2))
    with pytest.raises(OrderError, match="vanilla form"):
        forward(ENDPOINT, Clip(2))
    with pytest.raises(OrderError, match=r"growing endpoints from 0 to 3, got \(3, 1\)"):
        planned(ENDPOINT, Clip(4), endpoints=(3, 1))
    with pytest.raises(OrderError, match="from 0 to 3"):
        planned(ENDPOINT, Clip(4), endpoints=(4,))
    with pytest.raises(OrderError, match="sections=0"):
        Clip(0)
    with pytest.raises(OrderError, match="from 1 to 4 endpoints"):
        spread_endpoints(4, count=5)
