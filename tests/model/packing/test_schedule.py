"""The grammar of schedules, their errors and their token counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.packing.schedule import Schedule, ScheduleError, Segment

HD = (60, 104)  # 480 x 832
SQUARE = (64, 96)  # 512 x 768

NAMES = [
    "td_f16k4f2k2f1k1_g9",
    "td_f16k4f2k2f1k1_g9+D",
    "ta_f8k8f4k4f2k2f1k1_g9+d",
    "f16k4h8w8f2k1h4w4f1k1_g3",
    "td_f16k4f2k2f1k1_g9_x_f1k1+D",
    "f1k1_x_g9_f1k1f2k2f16k4_td",
    "f1k1_x_g9_f1k1f2k2f16k4",
    "f1k1f4s2f1s1f16k4f2k2f1k1_g1",
    "tc_f1k16f8k8f1k1_g9",
]


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name):
    assert str(Schedule.parse(name)) == name


kernels = st.one_of(
    st.integers(1, 16).map(lambda n: f"k{n}"),
    st.tuples(*[st.integers(1, 64)] * 3).map(lambda k: "k{}h{}w{}".format(*k)),
)
histories = st.lists(st.tuples(st.integers(1, 512), kernels), min_size=1, max_size=5).map(
    lambda pairs: "".join(f"f{n}{k}" for n, k in pairs)
)
tails = st.sampled_from(["", "td", "ta", "tc"])
suffixes = st.sampled_from(["", "+D", "+d"])


@given(histories, histories, tails, suffixes, st.integers(1, 99), st.sampled_from(["vanilla", "endpoint", "inverted"]))
def test_any_name_of_the_grammar_round_trips(past, future, tail, suffix, target, form):
    words = {
        "vanilla": [tail, past, f"g{target}"],
        "endpoint": [tail, past, f"g{target}", "x", future],
        "inverted": [past, "x", f"g{target}", future, tail],
    }[form]
    name = "_".join(filter(None, words)) + suffix
    schedule = Schedule.parse(name)
    assert str(schedule) == name
    assert (schedule.form, schedule.target, schedule.tail) == (form, target, tail)
    assert schedule.is_discrete == bool(suffix)
    assert "".join(map(str, schedule.start + schedule.recalled + schedule.recent)) == past


def test_kernels_follow_the_base_patch():
    name = "f1s2f16k4f2k2h6w8f1k1_g1"
    assert [s.kernel for s in Schedule.parse(name).past] == [(1, 4, 4), (4, 8, 8), (2, 6, 8), (1, 2, 2)]
    assert [s.kernel for s in Schedule.parse(name, base=(1, 1, 1)).past] == [(1, 2, 2), (4, 4, 4), (2, 6, 8), (1, 1, 1)]


@pytest.mark.parametrize(
    ("name", "start", "recalled", "recent"),
    [
        ("f1k1f4s2f1s1f16k4f2k2f1k1_g1", "f1k1", "f4s2f1s1", "f16k4f2k2f1k1"),
        ("f4s2f16k4f2k2f1k1_g1", "", "f4s2", "f16k4f2k2f1k1"),
        ("td_f1k1f16k4f2k2f1k1_g9", "f1k1", "", "f16k4f2k2f1k1"),
        ("td_f1k1f2k2f16k4f2k2f1k1_g9", "f1k1f2k2", "", "f16k4f2k2f1k1"),
        ("td_f16k4f2k2f1k1_g9", "", "", "f16k4f2k2f1k1"),
        ("f9k1_g9", "", "", "f9k1"),
        ("f1k1_x_g9_f1k1f2k2f16k4_td", "f1k1", "", ""),
    ],
)
def test_roles(name, start, recalled, recent):
    schedule = Schedule.parse(name)
    roles = [schedule.start, schedule.recalled, schedule.recent]
    assert ["".join(map(str, segments)) for segments in roles] == [start, recalled, recent]


@pytest.mark.parametrize(
    ("name", "token", "position"),
    [
        ("", "", 0),
        ("td_f16q4_g9", "f16q4", 3),
        ("f16k4f0k2f1k1_g9", "f0k2", 5),
        ("f16k4f2k2f01k1_g9", "f01k1", 9),
        ("f16k4h8f1k1_g9", "f16k4h8", 0),
        ("td_f1k1", "", 7),
        ("td", "", 2),
        ("g9_f1k1", "g9", 0),
        ("f1k1_g9_td", "td", 8),
        ("td_f1k1_x_g9_f1k1", "x", 8),
        ("f1k1_g9_x", "", 9),
        ("f1k1_g0", "g0", 5),
        ("f1k1__g9", "", 5),
        ("f1k1_g9_y_f1k1", "y", 8),
        ("f1k1_g9+E", "+E", 7),
        ("f1k1_g9+D_x_f1k1", "+D_x_f1k1", 7),
        ("f1k1f1s1f1k1f1s1_g1", "f1s1", 12),
        ("f1k1_g9_x_f1s1", "f1s1", 10),
        ("f1k1_g9 ", "g9 ", 5),
    ],
)
def test_errors_show_the_token_and_its_place(name, token, position):
    with pytest.raises(ScheduleError) as caught:
        Schedule.parse(name)
    assert (caught.value.token, caught.value.position) == (token, position)
    assert (repr(token) if token else "the end") in str(caught.value)


def test_the_error_says_what_was_expected():
    with pytest.raises(ScheduleError, match="expected the end or x, got 'td' at position 8"):
        Schedule.parse("f1k1_g9_td")


@given(st.text(alphabet="fkghwsxtdac_+D0123456789", max_size=40))
def test_any_text_is_a_schedule_or_a_named_error(name):
    try:
        assert str(Schedule.parse(name)) == name
    except ScheduleError as error:
        assert name[error.position :].startswith(error.token)


def test_a_long_name_is_refused():
    with pytest.raises(ScheduleError, match="at most 256 characters"):
        Schedule.parse("f1k1" * 1000 + "_g9")


@pytest.mark.parametrize(
    ("history", "hd", "square"),
    [
        ("f1k1", 1560, 1536),
        ("f2k2", 390, 384),
        ("f4k2", 780, 768),
        ("f16k4", 416, 384),
        ("f4k4", 104, 96),
        ("f8k8", 28, 24),
        ("f16k4f2k2f1k1", 2366, 2304),
        ("f16k4f4k2f1k1", 2756, 2688),
        ("f8k8f4k4f2k2f1k1", 2082, 2040),
        ("f1k1f16k4f2k2f1k1", 3926, 3840),
    ],
)
def test_token_counts(history, hd, square):
    schedule = Schedule.parse(f"td_{history}_g9")
    assert (schedule.context_tokens(HD), schedule.context_tokens(SQUARE)) == (hd, square)
    assert (schedule.target_tokens(HD), schedule.target_tokens(SQUARE)) == (14040, 13824)


def test_released_inverted_layout_costs_the_same():
    schedule = Schedule.parse("f1k1_x_g9_f1k1f2k2f16k4_td")
    assert schedule.context_tokens(HD) + schedule.target_tokens(HD) == 17966


def test_a_small_model_counts_by_its_own_grid():
    live = Schedule.parse("f1k1f4s2f1s1f16k4f2k2f1k1_g1")
    assert live.context_tokens((16, 16)) == 64 + 4 * 16 + 64 + 16 + 16 + 64
    assert live.target_tokens((16, 16)) == 64


def test_recalled_frames_keep_their_own_tokens():
    alone, merged = Schedule.parse("f4s4f1k1_g1"), Schedule.parse("f4k4f1k1_g1")
    assert alone.past[0].tokens(HD) == 4 * merged.past[0].tokens(HD)


@given(st.integers(0, 100_000))
def test_only_the_appended_tail_grows(frames):
    plain = Schedule.parse("f16k4f2k2f1k1_g9").context_tokens(HD)
    tokens = {
        t: Schedule.parse(f"{t}_f16k4f2k2f1k1_g9").context_tokens(HD, tail_frames=frames) for t in ("td", "ta", "tc")
    }
    assert tokens == {"td": plain, "ta": plain + frames, "tc": plain + min(frames, 1)}


def test_the_tail_takes_the_nearest_kernel():
    assert str(Schedule.parse("ta_f1k1f16k4f2k2_g9").tail_segment) == "f16k4"
    assert str(Schedule.parse("f1k1_x_g9_f1k1f2k2f16k4_td").tail_segment) == "f16k4"
    assert Schedule.parse("ta_f4k1_g9").tail_tokens(HD, frames=3) == 3 * 2  # 2x4 pooled pixels under 2x2


@given(st.integers(1, 64), st.tuples(*[st.integers(1, 16)] * 3), st.tuples(*[st.integers(1, 64)] * 2))
def test_whole_kernels_cover_a_segment(frames, kernel, grid):
    tokens = Segment(frames, "k", kernel).tokens(grid)
    covered = tokens * kernel[0] * kernel[1] * kernel[2]
    assert covered >= frames * grid[0] * grid[1]
    assert covered < (frames + kernel[0]) * (grid[0] + kernel[1]) * (grid[1] + kernel[2])
