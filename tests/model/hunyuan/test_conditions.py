"""Prompts and start images as diffusers' pipeline encodes them, to the bit; and what lies between two prompts."""

import numpy as np
import pytest
import torch

from model.hunyuan.conditions import KEPT_TEXTS, MAX_TOKENS, Text, mixed

from . import tiny

PROMPTS = ["a cat walks", "", "rain falls slowly . " * 3, "cat " * 400]


@pytest.fixture(scope="module")
def parts():
    return tiny.parts()


@pytest.fixture(scope="module")
def loaded(parts):
    return tiny.loaded(parts)


@torch.no_grad()
@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
def test_prompts_are_encoded_as_by_diffusers(parts, loaded, prompt):
    tokens, pooled, mask = tiny.oracle(parts, noises=()).encode_prompt(prompt)
    text = loaded.texts(prompt)
    assert text.length == int(mask.sum()) <= MAX_TOKENS
    assert torch.equal(text.tokens[: text.length], tokens[0, : text.length])
    assert not text.tokens[text.length :].any()
    assert torch.equal(text.pooled, pooled[0])


def test_words_matter_and_make_prompts_longer(loaded):
    short, long = loaded.texts("a cat"), loaded.texts("a cat walks through the garden")
    assert short.length < long.length
    assert not torch.equal(loaded.texts("a cat").tokens, loaded.texts("the cat").tokens)


def test_a_prompt_read_lately_is_not_read_again(parts):
    texts = tiny.loaded(parts).texts
    first = texts("a cat")
    for i in range(KEPT_TEXTS - 1):
        texts(f"cat {i}")
    assert texts("a cat") is first
    for i in range(KEPT_TEXTS):
        texts(f"garden {i}")
    again = texts("a cat")
    assert again is not first
    assert torch.equal(again.tokens, first.tokens)


def test_images_are_encoded_as_by_siglip(parts, loaded):
    frame = tiny.image()
    pixels = parts.feature_extractor(images=frame, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = parts.image_encoder(pixel_values=pixels).last_hidden_state[0]
    assert torch.equal(loaded.images(frame), expected)
    assert not torch.equal(loaded.images(tiny.image(seed=1)), expected)


def test_between_two_prompts():
    old = Text(torch.tensor([[4.0], [0.0]]), 1, torch.tensor([1.0]))
    new = Text(torch.tensor([[0.0], [8.0]]), 2, torch.tensor([2.0]))
    between = mixed([(old, 0.75), (new, 0.25)])
    assert between.tokens.flatten().tolist() == [3.0, 2.0]
    assert (between.length, between.pooled.item()) == (2, 1.25)
    assert mixed([(new, 1.0)]) is new
    np.testing.assert_array_equal(mixed([(old, 0.5), (old, 0.5)]).tokens, old.tokens)
