"""Prompts that change: when, how fast, and what is said meanwhile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.framepack.wording import Wording


def test_a_new_prompt_fades_in():
    wording = Wording("day").change("night", fade=4)
    shares = []
    for _ in range(5):
        shares.append(dict(wording.mix).get("night"))
        wording = wording.next()
    assert shares == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert wording.mix == (("night", 1.0),)


def test_at_once():
    assert Wording("day").change("night", fade=1).mix == (("night", 1.0),)


def test_the_same_prompt_changes_nothing():
    fading = Wording("day").change("night", fade=3)
    assert fading.change("night", fade=3) is fading


def test_settled_it_says_the_newest_alone():
    assert Wording("day").change("night", fade=3).settled().mix == (("night", 1.0),)


@given(st.lists(st.sampled_from("abc"), max_size=6), st.integers(1, 5), st.integers(0, 6))
def test_shares_add_up_and_the_last_word_wins(prompts, fade, sections):
    wording = Wording("start")
    for prompt in prompts:
        wording = wording.change(prompt, fade=fade).next()
        assert sum(share for _, share in wording.mix) == pytest.approx(1)
    for _ in range(max(sections, fade)):
        wording = wording.next()
    assert wording.mix == (((prompts or ["start"])[-1], 1.0),)
