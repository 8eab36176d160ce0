"""Timelines: what was written holds when it was said to, and what was written wrong is pointed at."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model.clips.timeline import MAX_ENTRIES, MAX_TEXT, PROMPT, Span, Timeline, TimelineError

AXES = ("move", "strafe", "turn")
RATE = Fraction(15)

values = st.floats(-1, 1)
times = st.integers(0, 9_999_000).map(lambda milliseconds: Fraction(milliseconds, 1000))


def spelled(seconds: Fraction) -> str:
    return f"{int(seconds * 1000)}ms" if seconds.denominator > 1 else f"{seconds}s"


@st.composite
def channels(draw: st.DrawFn, channel: str) -> list[Span]:
    """Spans of one channel side by side or apart."""
    marks = sorted(draw(st.lists(times, max_size=8, unique=True)))
    pairs = zip(marks[::2], marks[1::2], strict=False)
    return [Span(channel, draw(values), start, end) for start, end in pairs]


def test_a_timeline_reads_as_it_is_written() -> None:
    timeline = Timeline.parse("[0s-2s: move=1 turn=0.3] [2s-4s: turn=-1]\n[500ms: a red room]")
    assert timeline.spans == (
        Span(PROMPT, "a red room", Fraction(1, 2), None),
        Span("move", 1.0, Fraction(0), Fraction(2)),
        Span("turn", 0.3, Fraction(0), Fraction(2)),
        Span("turn", -1.0, Fraction(2), Fraction(4)),
    )


@given(channels("move"), channels("turn"), st.randoms())
def test_spans_survive_being_written_in_any_order(move: list[Span], turn: list[Span], random: object) -> None:
    spans = move + turn
    random.shuffle(spans)  # type: ignore[attr-defined]
    text = " ".join(f"[{spelled(s.start)}-{spelled(s.end or Fraction(0))}: {s.channel}={s.value!r}]" for s in spans)
    assert set(Timeline.parse(text).spans) == {*move, *turn}


@given(channels("turn"), st.integers(-20, 150_000), st.integers(1, 60))
def test_a_frame_has_the_value_of_its_time(spans: list[Span], first: int, count: int) -> None:
    controls = Timeline(tuple(spans)).controls(range(first, first + count), axes=AXES, rate=RATE)
    assert controls.shape == (count, 3)
    assert controls.dtype == np.float32
    for frame, row in enumerate(controls, first):
        now = [s.value for s in spans if s.end is not None and s.start <= Fraction(frame) / RATE < s.end]
        assert row.tolist() == [0, 0, np.float32(now[0]) if now else 0]


@example("A=[")
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_any_prompt_can_be_written(prompt: str) -> None:
    escaped = "".join("\\" + sign if sign in "[]\\" else sign for sign in prompt)
    first = escaped.lstrip()  # escaped too, it is no control's name
    text = f"[1s: \\{first}]" if "=" in prompt and not first.startswith("\\") else f"[1s: {escaped}]"
    if not prompt.strip():
        with pytest.raises(TimelineError, match="or a prompt"):
            Timeline.parse(text)
        return
    assert Timeline.parse(text).prompt(Fraction(2), otherwise="") == prompt.strip()


@given(st.text("[]:-=.s0123move \\m", max_size=40))
def test_nonsense_is_refused_at_its_place(text: str) -> None:
    try:
        Timeline.parse(text)
    except TimelineError as error:
        assert 0 <= error.position <= len(text)
        assert text.startswith(error.token, error.position) or "\\" in text


def test_an_open_entry_lasts_until_the_next_of_its_channel() -> None:
    timeline = Timeline.parse("[0s: turn=1 move=0.5] [2s: turn=-1]")
    controls = timeline.controls(range(28, 32), axes=AXES, rate=RATE)
    assert controls.tolist() == [[0.5, 0, 1], [0.5, 0, 1], [0.5, 0, -1], [0.5, 0, -1]]


@pytest.mark.parametrize(
    ("seconds", "otherwise", "prompt"),
    [
        (0, "own", "own"),
        (1, "own", "a"),
        (2, "own", "own"),
        (3, "own", "b"),
        (9, "own", "b"),
        (0, "", ""),
        (2, "", "a"),
    ],
)
def test_the_prompt_of_a_time(seconds: int, otherwise: str, prompt: str) -> None:
    timeline = Timeline.parse("[1s-2s: a] [3s: b]")
    assert timeline.prompt(Fraction(seconds), otherwise=otherwise) == prompt


@pytest.mark.parametrize(
    ("text", "token", "position"),
    [
        ("[0s-2s: move=2]", "2", 8),
        ("[0s-2s: move=fast]", "fast", 8),
        ("[0s-2s: move=]", "move=", 8),
        ("[0s-2: move=1]", "2:", 4),
        ("[2-4s: move=1]", "2-4s:", 1),
        ("[2s-1s: move=1]", "1s", 4),
        ("[0s move=1]", "move=1]", 4),
        ("[0s-2s: ]", "]", 8),
        ("[0s-2s: move=1", "", 14),
        ("[0s-2s: a [b]]", "[b]]", 10),
        ("move=1", "move=1", 0),
        ("[0s-2s: move=1] x", "x", 16),
        ("[0s-2s: move=1 move=0]", "move", 15),
        ("[0s-2s: move=1] [1s-3s: move=0]", "move", 24),
        ("[1s-3s: move=0] [0s-2s: move=1]", "move", 24),
        ("[0s: a] [0s: b]", "b", 13),
    ],
)
def test_errors_name_the_token_and_its_place(text: str, token: str, position: int) -> None:
    with pytest.raises(TimelineError, match=f"position {position} ") as raised:
        Timeline.parse(text)
    assert (raised.value.token, raised.value.position) == (token, position)


def test_timelines_are_bounded() -> None:
    with pytest.raises(TimelineError, match="characters"):
        Timeline.parse(" " * (MAX_TEXT + 1))
    with pytest.raises(TimelineError, match=f"at most {MAX_ENTRIES} entries"):
        Timeline.parse("".join(f"[{i}s:a]" for i in range(MAX_ENTRIES + 1)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[0s-1s: jump=1]", r"axes move, strafe, turn, got 'jump' at position 8"),
        ("[0s-1s: a room]", r"takes no prompts, got 'a room' at position 8"),
        ("[5s-6s: move=1]", r"before the clip's end at 5s, got 'move' at position 8"),
    ],
)
def test_a_timeline_is_checked_against_its_model_and_clip(text: str, expected: str) -> None:
    with pytest.raises(TimelineError, match=expected):
        Timeline.parse(text).check(axes=AXES, accepts_prompt=False, seconds=Fraction(5))
    Timeline.parse("[4s-9s: move=1]").check(axes=AXES, accepts_prompt=False, seconds=Fraction(5))
