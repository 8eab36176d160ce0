"""`helios` against diffusers' own pipeline on the same parts, and as a server plays it."""

import numpy as np
import pytest
import torch
from diffusers import HeliosPipeline

from model.framepack.pictures import to_uint8
from model.helios.chunks import from_chunk, to_chunk
from model.helios.course import StraightPlan
from model.helios.world import generator_of
from model.world_model import Section
from tests.model.wan import tiny as wan

from . import tiny
from .playing import REST, Player, play

STEPS, SECTION = 3, 3


@pytest.fixture(scope="module")
def parts():
    return tiny.parts()


class Oracle(HeliosPipeline):
    """diffusers' pipeline with our noise."""

    def prepare_latents(self, batch, channels, height, width, frames, **kwargs):  # noqa: ARG002 - the noise is given
        self.chunks += 1
        shape = (batch, channels, (frames - 1) // 4 + 1, height // 8, width // 8)
        return torch.randn(*shape, generator=generator_of(1, self.chunks))


def oracle(parts, scheduler):
    pipeline = Oracle(wan.tokenizer(), wan.text_encoder(), parts.vae, scheduler, parts.transformer)
    pipeline.chunks = 0
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def round_last(pipeline, step, timestep, found):  # noqa: ARG001 - diffusers' signature
    """A finished chunk as a session's history keeps it."""
    is_last = step == pipeline.num_timesteps - 1
    return {"latents": found["latents"].half().float() if is_last else found["latents"]}


def theirs(parts, scheduler, *, sections, **asked):
    """The chunks (n, C, S h, w) float16 of diffusers' pipeline."""
    latents = ask(oracle(parts, scheduler), sections=sections, output_type="latent", **asked)
    return np.stack([to_chunk(chunk) for chunk in latents[0, :, -SECTION * sections :].split(SECTION, dim=1)])


def ask(pipeline, *, sections, **asked):
    return pipeline(
        prompt="a cat walks",
        negative_prompt="rain falls",
        height=48,
        width=80,
        num_frames=9 * sections,
        num_inference_steps=STEPS,
        num_latent_frames_per_chunk=SECTION,
        callback_on_step_end=round_last,
        **asked,
    ).frames


SCHEDULERS = [
    tiny.scheduler(),
    tiny.scheduler(scheduler_type="euler"),
    tiny.scheduler(use_dynamic_shifting=False, shift=5.0),
]


@pytest.mark.parametrize(
    ("scheduler", "guidance"), [*((scheduler, 5.0) for scheduler in SCHEDULERS), (SCHEDULERS[0], 1.0)]
)
def test_a_world_of_words_is_the_pipelines_to_the_bit(parts, scheduler, guidance):
    player = Player(tiny.helios_of(parts, StraightPlan(scheduler, STEPS), guidance=guidance))
    play(player, sections=4)
    wanted = theirs(parts, scheduler, sections=4, guidance_scale=guidance)
    assert np.array_equal(player.chunks[1:], wanted)
    assert wanted.std() > 0.1


@pytest.mark.parametrize(("guidance", "sections"), [(1.0, 2), (5.0, 8)])  # 8 are more than the slots show
def test_a_world_of_an_image_is_the_pipelines_to_the_bit(parts, guidance, sections):
    model, image = tiny.helios_of(parts, StraightPlan(tiny.scheduler(), STEPS), guidance=guidance), wan.image()
    player = Player(model, image=image)
    play(player, sections=sections)
    still = model.pictures.encode_video(np.repeat(image[None], 9, axis=0)).transpose(0, 1)[None]
    wanted = theirs(
        parts,
        tiny.scheduler(),
        sections=sections,
        guidance_scale=guidance,
        image_latents=still[:, :, :1],
        fake_image_latents=still[:, :, -1:],
        generator=generator_of(1, 0),  # of the noise on both
    )
    assert np.array_equal(player.chunks[1:], wanted)
    [other] = play(Player(model), sections=1)
    assert not np.array_equal(model.decode([player.state], [Section(wanted[:1], None)])[0], other)


def test_frames_are_the_pipelines(parts):
    [ours] = play(Player(tiny.helios_of(parts, StraightPlan(tiny.scheduler(), STEPS))), sections=3)
    video = ask(oracle(parts, tiny.scheduler()), sections=3, guidance_scale=5.0)[0]
    assert ours.shape == (27, 48, 80, 3)
    assert np.array_equal(ours[:25], (video * 255).round().astype(np.uint8))  # diffusers cuts to 4 n + 1 frames
    assert ours.std() > 1


def test_sessions_share_forward_passes(parts):
    model = tiny.helios_of(parts, StraightPlan(tiny.scheduler(), STEPS))
    of_words, of_image = {"seed": 1}, {"seed": 2, "image": wan.image(), "prompt": "rain falls"}
    together = play(Player(model, **of_words), Player(model, **of_image), sections=2)
    for frames, opening in zip(together, (of_words, of_image), strict=True):
        [alone] = play(Player(model, **opening), sections=2)
        assert np.abs(frames.astype(int) - alone).max() <= 1


@pytest.mark.parametrize("opening", [{}, {"image": wan.image()}], ids=["words", "image"])
@pytest.mark.parametrize("before", [1, 9])
def test_a_resumed_session_goes_on_as_if_nothing_had_happened(parts, opening, before):
    model = tiny.helios_of(parts, StraightPlan(tiny.scheduler(), STEPS))
    player = Player(model, **opening)
    play(player, sections=before)
    kept = max(model.spec.num_recent, model.spec.section_latents)
    fresh = model.open(prompt="a cat walks", seed=1, **opening)
    model.resume(fresh, player.chunks[-kept:], np.zeros((kept, 3), np.float32), num_sections=before)
    history = player.history
    [expected] = play(player, sections=1)
    [job] = model.begin([fresh], [REST], [history])
    while job.steps_left:
        model.advance([job])
    assert np.array_equal(model.decode([fresh], model.finish([job]))[0], expected)


def test_prompts_and_keys_count_from_the_second_chunk_of_a_world_of_words(parts):
    model = tiny.helios_of(parts, StraightPlan(tiny.scheduler(), STEPS))
    moved = np.ones((9, 4), np.float32)
    [still], [steered] = (play(Player(model), sections=2, controls=controls) for controls in (REST, moved))
    assert np.array_equal(still[:9], steered[:9])
    assert not np.array_equal(still[9:], steered[9:])
    told = Player(model)
    model.set_prompt(told.state, "slowly rain falls")
    [spoken] = play(told, sections=2)
    assert np.array_equal(still[:9], spoken[:9])
    assert not np.array_equal(still[9:], spoken[9:])


def test_what_the_server_is_told(parts):
    model = tiny.helios_of(parts, StraightPlan(tiny.scheduler(), STEPS))
    spec = model.spec
    assert (spec.latent_shape, spec.section_latents, spec.frames_per_latent) == ((16, 18, 10), 1, 9)
    assert (spec.num_recent, spec.num_steps, spec.frame_rate) == (7, 3, 24.0)
    chunks = model.encode(np.stack([wan.image(seed=i) for i in range(2)]))
    assert chunks.shape == (2, *spec.latent_shape)
    keys = model.features(np.concatenate([chunks, np.zeros_like(chunks[:1])]))
    assert keys.shape == (3, spec.feature_size)
    assert np.allclose(np.linalg.norm(keys, axis=1), 1)
    assert keys[0] @ keys[1] < 0.999


def test_a_draft_foresees_what_comes(parts):
    model = tiny.helios_of(parts, StraightPlan(tiny.scheduler(), STEPS))
    player = Player(model)
    [job] = model.begin([player.state], [REST], [player.history])
    noise, drafts = model.draft(job), []
    while job.steps_left:
        model.advance([job])
        drafts.append(model.draft(job))
    final = model.pictures.decode(job.noisy[0, :, -1:])
    assert np.abs(drafts[-1].astype(int) - to_uint8(final)[0]).max() <= 1
    assert not np.array_equal(drafts[0], noise)


def test_a_video_becomes_chunks_to_go_on_from(parts):
    model = tiny.helios_of(parts, StraightPlan(tiny.scheduler(), STEPS))
    video = np.stack([wan.image(seed=i // 4) for i in range(1 + 2 * 9)])
    chunks = model.encode_video(video)
    assert chunks.shape == (3, *model.spec.latent_shape)
    assert np.array_equal(chunks[0], model.encode(video[:1])[0])
    clean = model.pictures.encode_video(video[10:]).transpose(0, 1)
    noise = (from_chunk(chunks[2], section=SECTION) - clean) / 0.123 + clean  # z = (1 - sigma) x + sigma noise
    assert noise.std() == pytest.approx(1, abs=0.15)
    assert noise.mean() == pytest.approx(0, abs=0.15)
    state = model.open(image=video[0], prompt="a cat walks", seed=1)
    model.resume(state, chunks, np.zeros((3, 3), np.float32), num_sections=2)
    player = Player(model, image=video[0])
    player.state, player.chunks = state, chunks
    [going_on], [afresh] = play(player, sections=1), play(Player(model, image=video[0]), sections=1)
    assert not np.array_equal(going_on, afresh)
