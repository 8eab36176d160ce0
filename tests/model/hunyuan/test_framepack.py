"""Sections against diffusers' pipeline on the same modules, live and planned: to the bit, for several sections."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.hooks import apply_group_offloading
from PIL import Image

from model.clips.latents import LatentFile
from model.clips.planned import Aim, PlannedMaker, PlannedModel, Stage, check_order
from model.clips.request import ClipRequest
from model.clips.timeline import Timeline
from model.drift.orders import Clip, OrderError, endpoint, inverted
from model.framepack.options import Options, OptionsError
from model.framepack.slots import SlotsError
from model.hunyuan.framepack import I2V
from model.packing.pack import KernelError
from model.packing.schedule import Schedule
from server.world import Opening, World, sample

from . import tiny

PROMPT = "a cat walks through the garden"
SECTIONS, SECTION = 3, 3


@pytest.fixture(scope="module")
def parts():
    return tiny.parts(num_layers=2, num_single_layers=2)


@pytest.fixture(scope="module")
def f1(parts):
    return tiny.framepack_of(parts)


@pytest.fixture(scope="module")
def i2v(parts):
    return tiny.framepack_of(parts, weights=I2V)


def theirs(parts, model, *, kind, noises, prompts=(PROMPT,)):
    """Latents (B, t, C, h, w) of whole clips as diffusers makes them together, the start among them."""
    (height, width), image = model.spec.frame_shape, Image.fromarray(tiny.image(model.spec.frame_shape))
    video = tiny.oracle(parts, noises=noises)(
        image=[image] * len(prompts),
        prompt=list(prompts),
        height=height,
        width=width,
        num_frames=SECTIONS * (4 * (SECTION - 1) + 1),
        latent_window_size=SECTION,
        num_inference_steps=model.spec.num_steps,
        sigmas=model._sigmas[:-1].tolist(),
        guidance_scale=10.0,
        sampling_type=kind,
        output_type="latent",
        callback_on_step_end=tiny.round_last,
    ).frames
    return video[-1].transpose(1, 2).numpy()


def noises(model, sections, *, seed=0):
    return [model._noise(seed, 1 + i * SECTION) for i in sections]


def still(model):
    return np.zeros((SECTION * 4, len(model.spec.controls.axes)), np.float32)


def lived(model, *, prompt=PROMPT, seed=0, sections=SECTIONS):
    """A session's world after some sections at rest, and all its latents."""
    world = World(model, Opening(tiny.image(model.spec.frame_shape), prompt, seed), first_frame=0, capacity=64)
    latents = [world.state.start.latents]
    for _ in range(sections):
        section = sample(world, still(model))
        world.session.commit(section)
        world.remember()
        latents.append(section.latents)
    return world, np.concatenate(latents).astype(np.float32)


def lived_together(model, prompts):
    """All latents (B, t, C, h, w) of sessions at rest that share every forward pass; their seeds count from 0."""
    worlds = [lived(model, prompt=prompt, seed=i, sections=0)[0] for i, prompt in enumerate(prompts)]
    latents = [np.stack([world.state.start.latents for world in worlds])]
    for _ in range(SECTIONS):
        histories = [world.session._history() for world in worlds]
        jobs = model.begin([world.state for world in worlds], [still(model)] * len(worlds), histories)
        while jobs[0].steps_left:
            model.advance(jobs)
        sections = model.finish(jobs)
        for world, section in zip(worlds, sections, strict=True):
            world.session.commit(section)
            world.remember()
        latents.append(np.stack([section.latents for section in sections]))
    return np.concatenate(latents, axis=1).astype(np.float32)


def made(path: Path, model, request, *, prompt=PROMPT):
    """All latents of a planned clip in time's order."""
    state = model.open(image=tiny.image(model.spec.frame_shape), prompt=prompt, seed=0)
    stage = Stage(model, state, request, Timeline.parse(request.timeline), [state.start.latents[0]], [])
    with LatentFile(path, shape=(SECTION, *model.spec.latent_shape)) as file:
        maker = PlannedMaker(stage, file)
        for number in range(len(maker.order)):
            making = maker.make(number)
            try:
                while True:
                    next(making)
            except StopIteration as end:
                for section in end.value:
                    file.append(section)
        order = [i for sections in maker.order for i in sections]
        sections = [file.read(order.index(i)).latents for i in range(len(order))]
    return np.concatenate([state.start.latents, *sections]).astype(np.float32)


def request(order):
    return ClipRequest(prompt=PROMPT, order=order, seconds=SECTIONS * SECTION * 4 / 30)


@pytest.mark.parametrize("shape", [(48, 80), (64, 64)])
def test_live_sections_equal_the_vanilla_pipeline_to_the_bit(parts, shape):
    model = tiny.framepack_of(parts, frame_shape=shape)
    _, latents = lived(model)
    assert np.array_equal(latents, theirs(parts, model, kind="vanilla", noises=noises(model, range(SECTIONS)))[0])
    assert np.abs(np.diff(latents, axis=0)).mean() > 0.1


def test_a_batch_of_two_prompts_equals_the_pipelines_batch(parts, f1):
    """Of other lengths, so that one row's words are masked; the pipeline wants the start once for each.

    A few values round to the half beside: the pipeline reads prompts and packs histories together, sessions alone.
    """
    prompts = ["a cat", "rain falls slowly . camera moves forward"]
    pairs = zip(*(noises(f1, range(SECTIONS), seed=seed) for seed in range(2)), strict=True)
    latents = lived_together(f1, prompts)
    batched = theirs(parts, f1, kind="vanilla", noises=[torch.cat(pair) for pair in pairs], prompts=prompts)
    np.testing.assert_allclose(latents, batched, rtol=2**-10, atol=1e-5)
    assert (latents == batched).mean() > 0.998
    assert np.abs(latents[0] - latents[1]).mean() > 0.1


def test_planned_vanilla_sections_equal_live_ones(f1, tmp_path):
    assert np.array_equal(made(tmp_path / "latents", f1, request("vanilla")), lived(f1)[1])


@pytest.mark.parametrize("shape", [(48, 80), (64, 64)])
def test_inverted_sections_equal_the_inverted_pipeline_to_the_bit(parts, tmp_path, shape):
    model = tiny.framepack_of(parts, weights=I2V, frame_shape=shape)
    backwards = noises(model, reversed(range(SECTIONS)))
    latents = made(tmp_path / "latents", model, request("inverted"))
    assert np.array_equal(latents, theirs(parts, model, kind="inverted_anti_drifting", noises=backwards)[0])


def test_a_batch_at_other_steps_and_prompt_lengths_equals_sessions_alone(f1):
    """Also the second section, whose contexts differ."""
    prompts = ["a cat", "rain falls slowly . camera moves forward"]
    alone = [lived(f1, prompt=prompt, seed=i, sections=2)[1] for i, prompt in enumerate(prompts)]
    worlds = [lived(f1, prompt=prompt, seed=i, sections=1)[0] for i, prompt in enumerate(prompts)]
    jobs = [f1.begin([world.state], [still(f1)], [world.session._history()])[0] for world in worlds]
    f1.advance(jobs[:1])
    f1.advance(jobs)  # one is at its second step, one at its first
    f1.advance(jobs[1:])
    assert [job.steps_left for job in jobs] == [0, 0]
    for section, latents in zip(f1.finish(jobs), alone, strict=True):
        np.testing.assert_allclose(section.latents.astype(np.float32), latents[-SECTION:], rtol=0, atol=2e-3)
    assert np.abs(alone[0] - alone[1]).mean() > 0.1


def test_jobs_of_other_orders_share_a_turn_and_no_forward_pass(i2v):
    """In one `advance` they come out as they do alone."""
    plan = inverted(Schedule.parse(i2v.schedules["inverted"]), Clip(SECTIONS))
    world, _ = lived(i2v, sections=0)
    aim = Aim(next(plan), lambda sources: np.zeros((len(sources), *i2v.spec.latent_shape)), still(i2v), (PROMPT,))
    jobs = [
        i2v.begin_planned(world.state, aim),
        *i2v.begin([world.state], [still(i2v)], [world.session._history()]),
    ]
    while jobs[1].steps_left:
        i2v.advance(jobs)
    assert np.array_equal(i2v.finish(jobs)[1].latents, lived(i2v, sections=1)[1][-SECTION:])
    assert world.state.sections == 1  # the planned one is none of the session's


def test_sections_made_together_are_told_both_their_prompts(i2v):
    """And both their camera moves: the first section's is still, the last one's turns."""
    first, *_ = endpoint(Schedule.parse(i2v.schedules["endpoint"]), Clip(SECTIONS))
    world, _ = lived(i2v, sections=0)
    moves = np.concatenate([still(i2v), still(i2v)])
    moves[SECTION * 4 :, 2] = 1.0

    def told(controls, *prompts):
        aim = Aim(first, lambda sources: np.zeros((len(sources), *i2v.spec.latent_shape)), controls, prompts)
        return i2v.begin_planned(world.state, aim).given.text

    def said(*prompts):
        return i2v.network.condition(tuple((prompt, 0.5) for prompt in prompts), world.state.image).text

    assert torch.equal(told(moves, "a cat", "rain"), said("a cat", "rain The camera pans to the right."))
    assert not torch.equal(told(moves, "a cat", "rain"), told(0 * moves, "a cat", "rain"))


@pytest.mark.parametrize("order", ["endpoint", "planned"])
def test_orders_with_endpoints_make_whole_clips(i2v, tmp_path, order):
    assert isinstance(i2v, PlannedModel)
    check_order(request(order), i2v)
    latents = made(tmp_path / "latents", i2v, request(order))
    assert latents.shape == (1 + SECTIONS * SECTION, *i2v.spec.latent_shape)
    assert not np.array_equal(latents, lived(i2v)[1])


def test_the_solver_is_chosen(parts):
    unipc, euler = (tiny.framepack_of(parts, solver=solver, steps=4) for solver in ("unipc", "euler"))
    assert Options().solver == "unipc"
    assert not np.array_equal(lived(unipc, sections=1)[1], lived(euler, sections=1)[1])


def test_a_kernel_without_a_projection_is_refused(i2v, tmp_path):
    with pytest.raises(KernelError, match=r"got \[\(8, 16, 16\)\]"):
        made(tmp_path / "latents", i2v, ClipRequest(schedule="td_f1k1f8k8f4k4f2k2f1k1_g3", seconds=0.4))


def test_f1_is_asked_for_nothing_that_it_was_not_trained_for(f1):
    for order in ("inverted", "endpoint", "planned"):
        with pytest.raises(OrderError, match="the order vanilla, which framepack-f1 can follow"):
            check_order(request(order), f1)


def test_an_operators_schedule_brings_its_kernels(parts):
    model = tiny.framepack_of(parts, weights=I2V, schedule="td_f1k1f8k8f4k4f2k2f1k1_g3")
    assert np.isfinite(lived(model, sections=2)[1]).all()
    assert model.schedules["endpoint"].endswith("_g3_x_f1k1")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"frame_shape": (48, 90)}, OptionsError, "multiples of 16"),
        ({"steps": 0}, OptionsError, "at least 1"),
        ({"schedule": "f16k4f2k2f1k1_g3"}, SlotsError, "one start frame"),
        ({"schedule": "f1k1_x_g3_f1k1"}, SlotsError, "one start frame"),
        ({"schedule": "tc_f1k1f16k4f2k2f1k1_g3"}, SlotsError, "deletes its tail"),
        ({"schedule": "f1k1f16k4f2k2f1k1_g3+D"}, SlotsError, r"no \+D"),
        ({"num_recalled": 4}, SlotsError, "fewer memories than the 4 groups of f16k4"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(parts, options, error, said):
    with pytest.raises(error, match=said):
        tiny.framepack_of(parts, **options)


def test_coarse_weights_come_near(f1):
    """bfloat16, and float8 that diffusers casts layer by layer."""
    coarse = tiny.parts(num_layers=2, num_single_layers=2)
    for encoder in (coarse.transformer, coarse.text_encoder, coarse.text_encoder_2, coarse.image_encoder):
        encoder.bfloat16()
    fine = lived(f1)[1]
    brain = lived(tiny.framepack_of(coarse))[1]
    coarse.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    eight = lived(tiny.framepack_of(coarse))[1]
    assert not np.array_equal(brain, eight)
    for rounded in (brain, eight):
        assert 0 < np.abs(rounded - fine).mean() < 0.1 * np.abs(fine).mean()


def test_blocks_that_are_offloaded_in_groups_give_the_same(f1):
    hooked = tiny.framepack_of(tiny.parts(num_layers=2, num_single_layers=2))
    here = torch.device("cpu")
    apply_group_offloading(
        hooked.network.denoiser, here, offload_device=here, offload_type="block_level", num_blocks_per_group=1
    )
    assert np.array_equal(lived(hooked)[1], lived(f1)[1])


def test_guidance_is_an_input_of_the_network(parts, f1):
    other = tiny.framepack_of(parts, guidance=5.0)
    assert not np.array_equal(lived(f1, sections=1)[1], lived(other, sections=1)[1])
