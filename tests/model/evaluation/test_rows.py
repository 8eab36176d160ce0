import pytest

from model.drift.orders import Clip, forward, inverted
from model.evaluation.rows import ENTRIES, PARTS, RELEASED, SCHEDULES, mirrored, rows, variants
from model.lora.rooms import RoomsTraining
from model.packing.schedule import Schedule
from model.rooms.layout import layout_of
from model.training.context import showing_of


def test_every_row_has_a_plan_that_latents_of_rooms_can_follow() -> None:
    for row in rows():
        schedule = Schedule.parse(row.schedule)
        layout_of(schedule, size=16)
        order = inverted if row.order == "inverted" else forward
        assert sum(1 for _ in order(schedule, Clip(3, given=65))) == 3
        assert schedule.is_discrete == (row.entries > 0)


def test_the_tables_have_what_is_asked_of_them() -> None:
    schedules = rows(("schedules",))
    names = {row.name for row in schedules}
    complete = [name for name in SCHEDULES if {name, f"{name}+D", f"{name} inverted"} <= names]
    assert len(complete) >= 6
    swept = {row.entries for row in rows(("codebooks",))}
    assert swept == {0, *ENTRIES} == {0, 8, 32, 128, 512}
    alternatives = rows(("alternatives",))
    assert {row.noise for row in alternatives} == {0.0, 0.1, 0.5}
    assert {row.alternative for row in alternatives} == {"", "repeat", "anchors"}
    assert any(row.guidance != 1 for row in alternatives)
    assert any("causal" in row.name and "no change here" in row.note for row in alternatives)


def test_names_are_unique_within_a_part() -> None:
    for part in PARTS:
        names = [row.name for row in rows((part,))]
        assert len(names) == len(set(names))


def test_rows_that_differ_in_words_alone_are_one_run() -> None:
    made = {(row.part, row.name): row.doing() for row in rows()}
    assert made["alternatives", "vanilla"] == made["codebooks", "none"] == made["schedules", "level-duplication"]
    assert made["schedules", "symmetric inverted"] == made["schedules", "level-duplication inverted"]
    assert made["alternatives", "inverted"] != made["alternatives", "inverted, 24 ahead"]
    assert len(set(made.values())) > 25


def test_every_fine_tuning_that_a_row_takes_can_be_trained() -> None:
    made = variants()
    assert {name for row in rows() for name in row.variants if name} == set(made)
    for name, variant in made.items():
        training = RoomsTraining(variant.schedules, noise=variant.noise)
        assert len(set(training.schedules)) == len(training.schedules)
        for schedule in training.schedules:
            parsed = Schedule.parse(schedule)
            assert parsed.is_discrete == (variant.entries > 0)
            showing_of(schedule, size=16, ahead=training.ahead)
        users = [row for row in rows() if row.variants[0] == name and Schedule.parse(row.schedule).tail in ("", "td")]
        assert {row.schedule for row in users} <= set(variant.schedules)
        assert {row.entries for row in users} == {variant.entries}


def test_mirrored_schedules_see_as_much_on_either_side() -> None:
    assert mirrored(RELEASED) == "f16k4f2k2f1k1_x_g1_f1k1f2k2f16k4_td"
    layout = layout_of(Schedule.parse(mirrored(RELEASED)), size=16)
    assert layout.recent == layout.future == 19


@pytest.mark.parametrize("name", ["noise 0, noise-trained", "noise 0.5, as trained"])
def test_published_figures_stand_with_their_row(name: str) -> None:
    [row] = [row for row in rows(("alternatives",)) if row.name == name]
    assert row.published.clarity_drift == (8.41 if row.noise == 0 else 3.55)
    assert row.published.elo == (1095 if row.noise == 0 else 1174)
