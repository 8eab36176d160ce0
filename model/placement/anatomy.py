"""A model's body in numbers: the bytes of its parts and of what they work on, from shapes alone.

B sessions in a batch, C x h x w one latent, S latents of a section, m context tokens, N all image tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.fill import Precision
from ..framepack.step_cache import Rule
from ..helios.network import Denoiser as HeliosDenoiser
from ..hunyuan.network import Context as HunyuanContext
from ..hunyuan.network import Denoiser as HunyuanDenoiser
from ..hunyuan.network import Given, signal_of
from ..packing.context import Context
from ..packing.rope import Rotation
from ..packing.schedule import Schedule
from ..wan.network import Denoiser as WanDenoiser
from .measure import META, Cost, measure, retype

WORDS = {"framepack": 256, "wan": 512}  # tokens of a prompt, at most
IMAGE_TOKENS = 729  # of SigLIP
BLENDS = ("blend_v", "blend_h", "blend_t")  # diffusers' own, of tiles


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked of a model at once."""

    frame_shape: tuple[int, int] = (480, 832)
    schedule: str = "td_f1k1f16k4f2k2f1k1_g9"
    steps: int = 25
    batch: int = 1
    passes: int = 1  # of the network for a step: 2 with guidance that is not distilled
    cache: Rule | None = None  # keeps some of a step for the next ones

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w)."""
        return self.frame_shape[0] // 8, self.frame_shape[1] // 8


@dataclass(frozen=True, slots=True)
class Part:
    """A network's weights in bytes, as they are kept where they are multiplied."""

    name: str
    num_parameters: int
    num_bytes: int
    block_bytes: int  # the largest block of its lists
    rest_bytes: int  # outside of blocks
    leaf_bytes: int  # the largest single layer
    linear_parameters: int  # of the Linear modules within blocks: what quantizing shrinks
    largest_linear: int  # parameters of the largest of these
    pinned_bytes: int  # as page-locked memory, each tensor rounded up to a power of two


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What a plan is computed from."""

    parts: Mapping[str, Part]  # `transformer`, `vae` and encoders
    step: Cost  # of all passes of one step
    decode: Cost  # of one session's section, with the one before it
    tiled: Cost  # the same in tiles
    work: Work
    section_frames: int  # of one session


def dissect(modules: Mapping[str, nn.Module], work: Work, *, precision: Precision, precise: str = "") -> Anatomy:
    """Measure outlined `modules`, whose parameters take the types of `precision` by this; nothing else changes.

    Parameters of the transformer whose whole name `precise` matches stay in float32. Raises ScheduleError.
    """
    for name, module in modules.items():
        retype(module, precision.of(name), precise=precise if name == "transformer" else "")
    transformer, vae = modules["transformer"], modules["vae"]
    schedule = Schedule.parse(work.schedule)
    decode = partial(_decode, vae, work, schedule.target, precision.vae)
    parts = {name: part_of(name, module) for name, module in modules.items()}
    if work.cache is not None and work.cache.watches_input:
        kept = sum(map(_bytes, signal_of(transformer).parameters()))
        parts["transformer"] = replace(parts["transformer"], rest_bytes=parts["transformer"].rest_bytes + kept)
    return Anatomy(
        parts=parts,
        step=_step_cost(transformer, work, precision.transformer),
        decode=_with_tiles(vae, decode, tiled=False),
        tiled=_with_tiles(vae, decode, tiled=True),
        work=work,
        section_frames=4 * schedule.target,
    )


def part_of(name: str, module: nn.Module) -> Part:
    """Of a module in the types that it has."""
    lists = [child for child in module.modules() if isinstance(child, nn.ModuleList)]
    outer = [
        child for child in lists if not any(child is not other and child in set(other.modules()) for other in lists)
    ]
    blocks = [block for one in outer for block in one]
    linears = [m.weight.numel() for block in blocks for m in block.modules() if isinstance(m, nn.Linear)]
    weights = list(module.parameters())
    total = sum(map(_bytes, weights))
    inside = sum(_bytes(weight) for block in blocks for weight in block.parameters())
    leaves = [m for m in module.modules() if not any(m.children())]
    return Part(
        name=name,
        num_parameters=sum(weight.numel() for weight in weights),
        num_bytes=total,
        block_bytes=max((sum(map(_bytes, block.parameters())) for block in blocks), default=total),
        rest_bytes=total - inside,
        leaf_bytes=max(sum(map(_bytes, leaf.parameters())) for leaf in leaves),
        linear_parameters=sum(linears),
        largest_linear=max(linears, default=0),
        pinned_bytes=sum(1 << (_bytes(weight) - 1).bit_length() for weight in weights),
    )


def _bytes(weight: Tensor) -> int:
    return weight.numel() * weight.element_size()


def _step_cost(transformer: Any, work: Work, dtype: torch.dtype) -> Cost:
    schedule, denoiser = Schedule.parse(work.schedule), denoiser_of(transformer)
    context, target = schedule.context_tokens(work.grid), schedule.target_tokens(work.grid)
    one = measure(lambda: run_once(denoiser, work, dtype=dtype), weights=transformer.parameters())
    # of each session and pass: at most all hidden tokens to compare with, and the target's change
    width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    kept = work.batch * work.passes * (context + 2 * target) * width * dtype.itemsize if work.cache else 0
    return Cost(one.flops * work.passes, one.peak_bytes + kept)


def denoiser_of(transformer: Any) -> nn.Module:
    """Our forward pass over a network of diffusers'."""
    denoiser: nn.Module = _DENOISERS[type(transformer).__name__](transformer)
    return denoiser


def run_once(denoiser: Any, work: Work, *, dtype: torch.dtype) -> Tensor:
    """What `denoiser` makes of inputs in shapes only: its longest prompts, and a history with a frame in every slot."""
    schedule = Schedule.parse(work.schedule)
    context, target = schedule.context_tokens(work.grid), schedule.target_tokens(work.grid)
    sizes = _Sizes(work.batch, schedule.target, work.grid, context, target)
    run = _run_framepack if isinstance(denoiser, HunyuanDenoiser) else _run_wan
    out: Tensor = run(denoiser, sizes, dtype)
    return out


@dataclass(frozen=True, slots=True)
class _Sizes:
    batch: int
    section: int
    grid: tuple[int, int]
    context: int
    target: int


def _run_framepack(denoiser: Any, sizes: _Sizes, dtype: torch.dtype) -> Any:
    config, b = denoiser.config, sizes.batch
    head, words = config.attention_head_dim, WORDS["framepack"]
    tokens = _empty(b, sizes.context, config.num_attention_heads * head, dtype=dtype)
    rotation = Rotation(*(_empty(sizes.context + sizes.target, head, dtype=torch.float32) for _ in range(2)))
    given = Given(
        text=_empty(b, words, config.text_embed_dim, dtype=dtype),
        lengths=(words,) * b,
        pooled=_empty(b, config.pooled_projection_dim, dtype=dtype),
        image=_empty(b, IMAGE_TOKENS, config.image_proj_dim, dtype=dtype),
        guidance=_empty(b, dtype=dtype),
    )
    noisy, timestep = _noisy(config, sizes), _empty(b, dtype=torch.float32)
    return denoiser(noisy, timestep=timestep, context=HunyuanContext(tokens, rotation, None), given=given)


def _run_wan(denoiser: Any, sizes: _Sizes, dtype: torch.dtype) -> Any:
    config, b = denoiser.config, sizes.batch
    head = config.attention_head_dim
    tokens = _empty(b, sizes.context, config.num_attention_heads * head, dtype=dtype)
    rotation = Rotation(*(_empty(b, sizes.context + sizes.target, head, dtype=torch.float32) for _ in range(2)))
    text = _empty(b, WORDS["wan"], config.text_dim, dtype=dtype)
    noisy, timestep = _noisy(config, sizes), _empty(b, dtype=torch.float32)
    return denoiser(noisy, timestep=timestep, context=Context(tokens, rotation), text=text)


_DENOISERS: Mapping[str, Callable[[Any], nn.Module]] = {
    "HunyuanVideoFramepackTransformer3DModel": HunyuanDenoiser,
    "WanTransformer3DModel": WanDenoiser,
    "HeliosTransformer3DModel": HeliosDenoiser,
}


def _decode(vae: Any, work: Work, section: int, dtype: torch.dtype) -> object:
    channels = vae.config.get("latent_channels") or vae.config.z_dim
    return vae.decode(_empty(1, channels, 2 * section, *work.grid, dtype=dtype), return_dict=False)


def _with_tiles(vae: Any, decode: Callable[[], object], *, tiled: bool) -> Cost:
    if not tiled:
        return measure(decode, weights=vae.parameters())
    vae.enable_tiling()
    # row by row and in place: ten thousands of operations that take no memory to speak of, and a minute to measure
    for name in BLENDS:
        setattr(vae, name, _leave)
    cost = measure(decode, weights=vae.parameters())
    for name in BLENDS:
        delattr(vae, name)
    vae.disable_tiling()
    return cost


def _leave(_before: Tensor, tile: Tensor, _extent: int) -> Tensor:
    return tile


def _noisy(config: Any, sizes: _Sizes) -> Tensor:
    return _empty(sizes.batch, config.in_channels, sizes.section, *sizes.grid, dtype=torch.float32)


def _empty(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(*shape, dtype=dtype, device=META)
