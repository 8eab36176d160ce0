"""Plans carried out: streamed networks compute what resident ones do. Streams of a GPU are tested by the benchmark."""

import numpy as np
import pytest
import torch

from model.placement.place import homes, settle, stream
from model.placement.plan import plan_of
from model.wan.network import Denoiser
from model.world_model import History
from tests.model.hunyuan import tiny
from tests.model.wan import tiny as tiny_wan

from . import bodies

CPU, META = torch.device("cpu"), torch.device("meta")
ENCODERS = frozenset({"text_encoder", "text_encoder_2", "image_encoder"})
ALL = ENCODERS | {"transformer", "vae"}


def plan(*, streamed: frozenset[str], tiles: bool = False, quantized: str = ""):
    return plan_of(bodies.small(), bodies.CARD, streamed=streamed, tiles=tiles, quantized=quantized)


def section(model) -> np.ndarray:
    """Frames of a section from a start image and a prompt: every part computes."""
    state = model.open(image=tiny.image(), prompt="a cat walks", seed=3)
    history = model_history(model, state)
    jobs = model.begin([state], [np.zeros((12, len(model.spec.controls.axes)), np.float32)], [history])
    while jobs[0].steps_left:
        model.advance(jobs)
    return model.decode([state], model.finish(jobs))[0]


def model_history(model, state):
    slots = model.spec.num_recent
    latents = np.zeros((1 + slots, *model.spec.latent_shape), np.float16)
    latents[0] = latents[-1] = state.start.latents[0]
    valid = np.array([True, *[False] * (slots - 1), True])
    return History(latents, np.zeros(1 + slots, np.int64), np.zeros((1 + slots, 3), np.float32), valid)


def networks(of: tiny.Parts) -> dict[str, torch.nn.Module]:
    return {name: getattr(of, name) for name in ALL}


@pytest.mark.parametrize("streamed", [frozenset(), ENCODERS, ALL], ids=["resident", "encoders", "all"])
def test_streamed_networks_make_the_same_frames(streamed: frozenset[str]) -> None:
    own, same = tiny.parts(), tiny.parts()
    expected = section(tiny.framepack_of(own))
    model = tiny.framepack_of(same)
    network = model.network
    settle(
        plan(streamed=streamed),
        networks(same),
        denoiser=network.denoiser,
        packer=network.packer,
        device=CPU,
        compute=torch.float32,
    )
    hooked = {name for name, module in networks(same).items() if _has_hooks(module)}
    assert hooked == streamed
    np.testing.assert_array_equal(section(model), expected)


def _has_hooks(module: torch.nn.Module) -> bool:
    return any(hasattr(child, "_diffusers_hook") for child in module.modules())


def test_a_quantized_plan_changes_the_frames_a_little() -> None:
    own, coarse = tiny.parts(), tiny.parts()
    expected = section(tiny.framepack_of(own))
    model = tiny.framepack_of(coarse)
    settle(
        plan(streamed=ALL, quantized="fp8"),
        networks(coarse),
        denoiser=model.network.denoiser,
        packer=model.network.packer,
        device=CPU,
        compute=torch.float32,
    )
    difference = np.abs(section(model).astype(int) - expected)
    assert 0 < difference.max() and difference.mean() < 8


def test_tiles_are_turned_on_by_the_plan() -> None:
    of = tiny.parts()
    model = tiny.framepack_of(of)
    for tiles in (False, True):
        settle(
            plan(streamed=frozenset(), tiles=tiles),
            networks(of),
            denoiser=model.network.denoiser,
            packer=model.network.packer,
            device=CPU,
            compute=torch.float32,
        )
        assert of.vae.use_tiling is tiles


def test_weights_are_read_to_where_they_stay() -> None:
    where = homes(plan(streamed=ENCODERS), device=META)
    assert where == {name: CPU if name in ENCODERS else META for name in ALL}
    assert homes(plan(streamed=ENCODERS, quantized="nf4"), device=META)["transformer"] == CPU


@torch.no_grad()
def test_wan_streams_too() -> None:
    parts = tiny_wan.parts()
    expected = parts.texts("a cat walks")
    for module, by_block in ((Denoiser(parts.transformer), True), (parts.vae, False), (parts.texts._encoder, False)):
        stream(module, device=CPU, by_block=by_block, pinned=False)
        assert _has_hooks(module)
    parts.texts._texts.clear()
    assert torch.equal(parts.texts("a cat walks"), expected)
