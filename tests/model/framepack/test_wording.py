"""Prompts that change: when, how fast, and what is said meanwhile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.framepack.wording import Wording


def played(wording, sections=1):
    for _ in range(sections):
        wording = wording.after(wording)
    return wording


def test_a_new_prompt_fades_in():
    wording, shares = played(Wording("day")).change("night", fade=4), []
    for _ in range(5):
        shares.append(dict(wording.mix).get("night"))
        wording = played(wording)
    assert shares == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert wording.mix == (("night", 1.0),)


def test_at_once_if_so_wished_or_if_nothing_was_shown():
    assert played(Wording("day")).change("night", fade=1).mix == (("night", 1.0),)
    assert Wording("day").change("night", fade=3).mix == (("night", 1.0),)


def test_the_same_prompt_changes_nothing():
    fading = played(Wording("day")).change("night", fade=3)
    assert fading.change("night", fade=3) is fading


def test_what_was_never_shown_fades_in_nothing():
    day = played(Wording("day"))
    assert day.change("rain", fade=2).change("night", fade=2).mix == (("day", 0.5), ("night", 0.5))
    assert day.change("rain", fade=2).change("day", fade=2).mix == (("day", 1.0),)


def test_a_change_while_a_section_is_made_begins_after_it():
    made = Wording("day")
    assert made.change("night", fade=2).after(made).mix == (("day", 0.5), ("night", 0.5))
    fading = played(made).change("night", fade=3)
    assert fading.change("rain", fade=3).after(fading).mix == (("night", 1 - 1 / 3), ("rain", 1 / 3))
    assert fading.change("rain", fade=3).change("night", fade=3).after(fading) == played(fading)


def test_settled_it_says_the_newest_alone():
    assert played(Wording("day")).change("night", fade=3).settled().mix == (("night", 1.0),)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=8), st.integers(1, 5))
def test_shares_add_up_and_the_last_word_wins(changes, fade):
    wording = Wording("start")
    for prompt, is_played in changes:
        made = wording
        wording = wording.change(prompt, fade=fade)
        if is_played:
            wording = wording.after(made)
        assert sum(share for _, share in wording.mix) == pytest.approx(1)
        assert wording.mix[-1][0] == prompt
    newest = changes[-1][0] if changes else "start"
    assert played(wording, fade).mix == ((newest, 1.0),)
