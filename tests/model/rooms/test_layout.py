import pytest

from model.packing.families import PRESETS
from model.packing.schedule import Schedule
from model.rooms.layout import Group, LayoutError, layout_of, tail_groups


def groups(name: str) -> tuple[Group, ...]:
    return layout_of(Schedule.parse(name), size=16).groups


def test_the_finest_recall_slots_get_the_best_and_groups_stand_as_the_name_reads() -> None:
    assert groups("f1k1f2s2f1s1f1s4f4k4f1k1_g1") == (
        Group("start", (0,)),
        Group("s2", (2,)),
        Group("s2", (3,)),
        Group("s1", (1,)),
        Group("s4", (4,)),
        Group("k4", (5, 6, 7, 8)),
        Group("k1", (9,)),
    )


def test_there_is_a_slot_for_a_start_that_is_not_shown() -> None:
    assert groups("f2k1_g1") == (Group("k1", (1,)), Group("k1", (2,)))


def test_future_slots_come_after_the_recent_and_are_packed_as_these() -> None:
    assert groups("f2k2f1k1_x_g1_f1k1f2k2f4k4_td") == (
        Group("k2", (1, 2)),
        Group("k1", (3,)),
        Group("k1", (4,)),
        Group("k2", (5, 6)),
        Group("k4", (7, 8, 9, 10)),
    )
    layout = layout_of(Schedule.parse("f1k1f2k2f1k1_g1_x_f1k1"), size=16)
    assert (layout.starts, layout.recalled, layout.recent, layout.future, layout.slots) == (1, 0, 3, 1, 5)


def test_a_long_start_has_kernels_of_its_own() -> None:
    layout = layout_of(Schedule.parse("f1k1f2k2f16k4f2k2f1k1_g1"), size=16)
    assert layout.groups[:2] == (Group("start", (0,)), Group("start_k2", (1, 2)))
    assert layout.kernels["start_k2"] == layout.kernels["k2"] == (2, 4, 4)
    assert layout.first_recent == 3


def test_tails_are_a_token_each_or_one_for_all() -> None:
    for name, expected in (
        ("ta", [Group("tail_k4", (5,)), Group("tail_k4", (6,))]),
        ("tc", [Group("tail_k4", (5, 6))]),
    ):
        schedule = Schedule.parse(f"{name}_f4k4f1k1_g1")
        assert tail_groups(schedule, [5, 6]) == expected
        assert layout_of(schedule, size=16).kernels["tail_k4"] == (4, 8, 8)
    assert tail_groups(Schedule.parse("td_f4k4f1k1_g1"), [5, 6]) == []
    assert tail_groups(Schedule.parse("tc_f4k4f1k1_g1"), []) == []


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_papers_families_fit_latents_of_rooms(name: str) -> None:
    schedule = Schedule.parse(PRESETS[name])
    layout = layout_of(schedule, size=16)
    assert sum(len(group.slots) for group in layout.groups) == sum(s.frames for s in schedule.past)
    assert len({slot for group in layout.groups for slot in group.slots}) == sum(s.frames for s in schedule.past)


def test_kernels_that_do_not_fit_are_refused() -> None:
    for name, segment in (("f1k16f1k1_g1", "f1k16"), ("f3k2f1k1_g1", "f3k2"), ("f1k1h3w3f1k1_g1", "f1k1h3w3")):
        with pytest.raises(LayoutError, match=segment):
            groups(name)
