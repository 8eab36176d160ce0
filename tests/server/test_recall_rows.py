from model.evaluation.rows import RELEASED
from model.packing.schedule import Schedule
from model.rooms.layout import check_live, layout_of
from server.recall_rows import OURS, TITLES, rows


def test_every_row_has_a_name_and_a_run_of_its_own():
    found = rows()
    assert found[0].name == OURS
    assert len({row.name for row in found}) == len({repr(row.doing()) for row in found}) == len(found)
    assert list(dict.fromkeys(row.part for row in found)) == list(TITLES)


def test_all_schedules_can_be_played_and_show_every_memory_alone():
    recent = len(layout_of(Schedule.parse(RELEASED), size=16).groups)
    for schedule in {row.schedule for row in rows()}:
        check_live(Schedule.parse(schedule))
        layout = layout_of(Schedule.parse(schedule), size=16)
        assert layout.recalled >= 5 and len(layout.groups) == 1 + layout.recalled + recent
