"""Prompts as Wan and Helios read them: all states of UMT5, with zeros behind the prompt that are attended to as well.

L text tokens.
"""

import html
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

MAX_TOKENS = 512
KEPT_TEXTS = 64  # encoded prompts that are kept: 4 MB each at full size


class TextEncoder:
    """Transformers' UMT5 with its tokenizer; a prompt that was read lately is not read again."""

    def __init__(self, encoder: nn.Module, tokenizer: Any, *, device: torch.device | str = "cpu") -> None:
        self._encoder, self._tokenizer, self._device = encoder, tokenizer, device
        self._texts: OrderedDict[str, Tensor] = OrderedDict()

    @torch.inference_mode()
    def __call__(self, prompt: str) -> Tensor:
        """(MAX_TOKENS, width) of a prompt, with the encoder's type."""
        prompt = tidy(prompt)
        if prompt not in self._texts:
            self._texts[prompt] = self._read(prompt)
            if len(self._texts) > KEPT_TEXTS:
                self._texts.popitem(last=False)
        self._texts.move_to_end(prompt)
        return self._texts[prompt]

    def _read(self, prompt: str) -> Tensor:
        inputs = self._tokenizer(
            [prompt], max_length=MAX_TOKENS, padding="max_length", truncation=True, return_tensors="pt"
        ).to(self._device)
        states: Tensor = self._encoder(inputs.input_ids, inputs.attention_mask).last_hidden_state[0]
        length = int(inputs.attention_mask.sum())
        return torch.cat([states[:length], torch.zeros_like(states[length:])])


def tidy(prompt: str) -> str:
    """What the models were shown: entities as the characters they stand for, and single spaces."""
    return " ".join(html.unescape(html.unescape(prompt)).split())
