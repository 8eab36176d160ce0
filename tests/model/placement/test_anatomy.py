"""A body in numbers, against the same model with data, and against what is published of the large ones."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.checkpoints.fill import EXACT, outline
from model.checkpoints.load import FRAMEPACK, WAN
from model.checkpoints.released import released
from model.framepack.step_cache import FirstBlockCache, TeaCache
from model.hunyuan.network import Context, Denoiser, Given
from model.packing.rope import Rotation
from model.placement.anatomy import Work, dissect, part_of
from model.placement.measure import measure
from tests.model.helios import tiny as tiny_helios
from tests.model.hunyuan import tiny
from tests.model.wan import tiny as tiny_wan

from . import bodies


def test_parts_are_weighed_as_they_are_kept() -> None:
    anatomy, real = bodies.small(), tiny.parts(num_layers=2)
    part = anatomy.parts["transformer"]
    assert part.num_bytes == sum(p.numel() * 4 for p in real.transformer.parameters())
    assert part.block_bytes == sum(p.numel() * 4 for p in real.transformer.transformer_blocks[0].parameters())
    assert 0 < part.rest_bytes < part.num_bytes - 2 * part.block_bytes
    assert part.pinned_bytes >= part.num_bytes
    assert set(anatomy.parts) == {"transformer", "vae", "text_encoder", "text_encoder_2", "image_encoder"}


def test_a_step_costs_what_a_real_step_costs() -> None:
    """The same with data, counted by torch's own counter."""
    denoiser = Denoiser(tiny.parts(num_layers=2).transformer)
    context, target = 15 + 4 * 2 + 6 + 15, 45  # of 3 x 5 patches a frame
    given = Given(torch.randn(1, 256, 16), (256,), torch.randn(1, 8), torch.randn(1, 729, 16), torch.ones(1))
    rotation = Rotation(*torch.randn(2, context + target, 10))
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        noisy = torch.randn(1, 16, 3, 6, 10)
        tokens = Context(torch.randn(1, context, 20), rotation, None)
        denoiser(noisy, timestep=torch.ones(1), context=tokens, given=given)
    assert bodies.small().step.flops == counter.get_total_flops()


def test_twice_the_sessions_are_twice_the_work() -> None:
    one, two = bodies.small(), bodies.small(replace(bodies.SMALL, batch=2))
    assert two.step.flops == pytest.approx(2 * one.step.flops)
    assert 1.5 * one.step.peak_bytes < two.step.peak_bytes <= 2 * one.step.peak_bytes
    guided = bodies.small(replace(bodies.SMALL, passes=2))
    assert guided.step.flops == 2 * one.step.flops and guided.step.peak_bytes == one.step.peak_bytes


def test_a_step_cache_keeps_something() -> None:
    """TeaCache also what it looks into, which is not streamed with its block."""
    plain, first, tea = (
        bodies.small(replace(bodies.SMALL, cache=rule)) for rule in (None, FirstBlockCache(), TeaCache())
    )
    context, target, width = 15 + 4 * 2 + 6 + 15, 45, 20
    assert first.step.peak_bytes - plain.step.peak_bytes == (context + 2 * target) * width * 4
    assert first.parts == plain.parts
    norm = tiny.parts().transformer.transformer_blocks[0].norm1
    kept = tea.parts["transformer"].rest_bytes - plain.parts["transformer"].rest_bytes
    assert kept == sum(p.numel() * 4 for p in norm.parameters()) > 0


def test_tiles_cost_what_they_cost_with_their_edges_blended() -> None:
    vae, latents = bodies.small_modules()["vae"], (1, 16, 6, 40, 40)
    vae.enable_tiling()
    blended = measure(lambda: vae.decode(torch.empty(latents, device="meta")), weights=vae.parameters())
    work = replace(bodies.SMALL, frame_shape=(320, 320))
    assert bodies.small(work).tiled == blended
    assert bodies.small(work).decode.peak_bytes > blended.peak_bytes


@pytest.mark.parametrize("of", [tiny_wan, tiny_helios], ids=["wan", "helios"])
def test_the_other_families_are_dissected_too(of) -> None:
    modules = {"transformer": outline(of.transformer), "vae": outline(tiny_wan.vae)}
    anatomy = dissect(modules, bodies.SMALL, precision=EXACT, precise=WAN.precise)
    assert anatomy.step.flops > 0 and anatomy.decode.flops > 0 and anatomy.section_frames == 12


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("framepack-f1", 12_874_314_816), ("wan", 1_418_996_800), ("wan-14b", 14_288_491_584)],
)
def test_the_released_shapes_have_the_published_number_of_parameters(model: str, parameters: int) -> None:
    assert part_of("transformer", released(model)["transformer"]).num_parameters == parameters


def test_what_is_published_of_framepack() -> None:
    """17966 image tokens at 480x832, 729 of the start image and 256 of text; 25.75 GB in bfloat16."""
    work = Work()
    vae = outline(lambda: tiny.parts().vae)  # the real one takes seconds, and so do tiles
    vae.tile_sample_min_height = vae.tile_sample_min_width = vae.tile_sample_min_num_frames = 4096
    modules = released("framepack-f1") | {"vae": vae}
    anatomy = dissect(modules, work, precision=FRAMEPACK.precision, precise=FRAMEPACK.precise)
    transformer = anatomy.parts["transformer"]
    assert transformer.num_bytes == pytest.approx(25.75e9, rel=0.001)
    assert anatomy.parts["text_encoder"].num_bytes == pytest.approx(15.0e9, rel=0.01)
    blocks, width, tokens = 60, 3072, 17966 + 729 + 256
    products = 2 * 12 * width**2 * tokens  # q, k, v, out and an MLP of four times the width
    assert anatomy.step.flops == pytest.approx(blocks * (products + 4 * width * tokens**2), rel=0.001)
