"""Anatomies for tests: FramePack in miniature, measured, and one of round numbers."""

from functools import cache

import torch

from model.checkpoints.fill import EXACT, outline
from model.checkpoints.framepack import PRECISE
from model.placement.anatomy import Anatomy, Part, Work, dissect
from model.placement.cards import GB, Card
from model.placement.measure import Cost
from tests.model.hunyuan import tiny

SMALL = Work(frame_shape=(48, 80), schedule="td_f1k1f16k4f2k2f1k1_g3", steps=2)
CARD = Card("a card", 24 * GB, 100e12, 20e9, 64 * GB)


def small_modules() -> dict[str, torch.nn.Module]:
    names = ("transformer", "vae", "text_encoder", "text_encoder_2", "image_encoder")
    return {name: outline(lambda name=name: getattr(tiny.parts(num_layers=2), name)) for name in names}


@cache
def small(work: Work = SMALL) -> Anatomy:
    return dissect(small_modules(), work, precision=EXACT, precise=PRECISE)


def part(name: str, gigabytes: float, *, block: float = 0.1) -> Part:
    """Half of it in blocks' products."""
    total = int(gigabytes * GB)
    return Part(
        name=name,
        num_parameters=total // 2,
        num_bytes=total,
        block_bytes=int(block * GB),
        rest_bytes=int(block * GB),
        leaf_bytes=int(block * GB / 2),
        linear_parameters=int(0.95 * total / 2),
        largest_linear=int(block * GB / 8),
        pinned_bytes=int(1.5 * total),
    )


def round_numbers(*, transformer: float = 26, activations: float = 2, decoding: float = 12) -> Anatomy:
    """In GB, like FramePack."""
    return Anatomy(
        parts={"transformer": part("transformer", transformer), "vae": part("vae", 0.5), "text": part("text", 16)},
        step=Cost(500e12, int(activations * GB)),
        decode=Cost(700e12, int(decoding * GB)),
        tiled=Cost(1100e12, 2 * GB),
        work=Work(),
        section_frames=36,
    )
