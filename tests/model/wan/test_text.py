"""Prompts against diffusers' own pipeline."""

import pytest
import torch
from diffusers import WanPipeline
from torch import nn

from model.wan.text import KEPT_TEXTS, MAX_TOKENS, TextEncoder, tidy

from . import tiny


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.calls = tiny.text_encoder(), 0

    def forward(self, *inputs):
        self.calls += 1
        return self.encoder(*inputs)


@pytest.mark.parametrize("prompt", ["", "a cat walks", "  rain   falls\n&amp;amp; slowly ", "the garden " * 300])
def test_states_equal_diffusers(prompt):
    encoder, tokenizer = tiny.text_encoder(), tiny.tokenizer()
    pipeline = WanPipeline(tokenizer, encoder, vae=None, scheduler=None)
    with torch.no_grad():
        theirs, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False, max_sequence_length=MAX_TOKENS)
    assert torch.equal(TextEncoder(encoder, tokenizer)(prompt), theirs[0])
    assert theirs.abs().max() > 0


def test_a_prompt_is_read_once_while_it_is_in_use():
    encoder = Counting()
    read = TextEncoder(encoder, tiny.tokenizer())
    first = read("a cat")
    assert read("a  cat ") is first
    for i in range(KEPT_TEXTS - 1):
        read(f"the cat {i}")
        read("a cat")
    assert encoder.calls == KEPT_TEXTS
    read("one more")
    read("the cat 0")
    assert encoder.calls == KEPT_TEXTS + 2
    assert read("a cat") is first


def test_tidy():
    assert tidy(" a&lt;b \n\t c ") == "a<b c"
