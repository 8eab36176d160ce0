"""What a session is conditioned on besides its history: prompts through Llama and CLIP, the start image through SigLIP.

L text tokens, k image tokens.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

TEMPLATE = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following aspects: "
    "1. The main content and theme of the video."
    "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects."
    "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects."
    "4. background environment, light, style and atmosphere."
    "5. camera angles, movements, and transitions used in the video:<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
)  # HunyuanVideo's; the model was trained behind it
TEMPLATE_TOKENS = 95  # of the template, in front of the prompt
MAX_TOKENS = 256
MAX_CLIP_TOKENS = 77
HIDDEN_LAYER = -3  # of Llama
KEPT_TEXTS = 64  # encoded prompts that are kept: 2 MB each at full size


class Text(NamedTuple):
    """An encoded prompt, on the CPU."""

    tokens: Tensor  # (L, text width), zero from `length` on
    length: int
    pooled: Tensor  # (pooled width,)


class Reader(NamedTuple):
    """A text encoder with its tokenizer, both transformers' own."""

    encoder: nn.Module
    tokenizer: Any


class TextEncoder:
    """Prompts as HunyuanVideo reads them; a prompt that was read lately is not read again."""

    def __init__(self, llama: Reader, clip: Reader, *, device: torch.device | str = "cpu") -> None:
        self._llama, self._clip, self._device = llama, clip, device
        self._texts: OrderedDict[str, Text] = OrderedDict()

    @torch.no_grad()
    def __call__(self, prompt: str) -> Text:
        if prompt not in self._texts:
            tokens, length = self._read(prompt)
            self._texts[prompt] = Text(tokens.cpu(), length, self._summarise(prompt).cpu())
            if len(self._texts) > KEPT_TEXTS:
                self._texts.popitem(last=False)
        self._texts.move_to_end(prompt)
        return self._texts[prompt]

    def _read(self, prompt: str) -> tuple[Tensor, int]:
        inputs = self._llama.tokenizer(
            [TEMPLATE.format(prompt)],
            max_length=MAX_TOKENS + TEMPLATE_TOKENS,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).to(self._device)
        states = self._llama.encoder(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, output_hidden_states=True
        ).hidden_states[HIDDEN_LAYER]
        is_word = inputs.attention_mask[0, TEMPLATE_TOKENS:].bool()
        return states[0, TEMPLATE_TOKENS:] * is_word[:, None], int(is_word.sum())

    def _summarise(self, prompt: str) -> Tensor:
        inputs = self._clip.tokenizer(
            [prompt], max_length=MAX_CLIP_TOKENS, padding="max_length", truncation=True, return_tensors="pt"
        )
        pooled: Tensor = self._clip.encoder(inputs.input_ids.to(self._device)).pooler_output
        return pooled[0]


class ImageEncoder:
    """Images as FramePack sees its start: all of SigLIP's last tokens."""

    def __init__(self, siglip: nn.Module, processor: Any, *, device: torch.device | str = "cpu") -> None:
        self._siglip, self._processor, self._device = siglip, processor, device

    @torch.no_grad()
    def __call__(self, frame: np.ndarray) -> Tensor:
        """(k, image width) of a frame (H, W, 3) uint8."""
        inputs = self._processor(images=frame, return_tensors="pt")
        pixels = inputs["pixel_values"].to(self._device, next(self._siglip.parameters()).dtype)
        tokens: Tensor = self._siglip(pixel_values=pixels).last_hidden_state
        return tokens[0]


def mixed(texts: Sequence[tuple[Text, float]]) -> Text:
    """Between prompts, each with its share; the end of a longer one is as faint as its share."""
    if len(texts) == 1:
        return texts[0][0]
    tokens = sum((share * text.tokens.float() for text, share in texts), torch.zeros(()))
    pooled = sum((share * text.pooled.float() for text, share in texts), torch.zeros(()))
    newest = texts[-1][0]
    return Text(tokens.to(newest.tokens.dtype), max(text.length for text, _ in texts), pooled.to(newest.pooled.dtype))
