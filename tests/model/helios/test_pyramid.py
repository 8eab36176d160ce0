"""The pyramid against diffusers' own pipeline on the same parts."""

import numpy as np
import pytest
import torch
from diffusers import HeliosPyramidPipeline

from model.framepack.options import OptionsError
from model.framepack.step_cache import FirstBlockCache
from model.helios.chunks import to_chunk
from model.helios.course import CourseError
from model.helios.pyramid import PyramidPlan, block_noise
from model.helios.world import generator_of
from tests.model.wan import tiny as wan

from . import tiny
from .playing import Player, play

SECTION, SHAPE = 3, (64, 128)
MID, DISTILLED = tiny.scheduler(stages=3), tiny.distilled()
CASES = {
    "mid": (PyramidPlan(MID, (3, 2, 2)), {"guidance_scale": 5.0}, {}),
    "mid, zero star": (
        PyramidPlan(MID, (3, 2, 2), num_still=2),
        {"guidance_scale": 5.0},
        {"is_cfg_zero_star": True},
    ),
    "distilled": (PyramidPlan(DISTILLED), {"guidance_scale": 1.0}, {"is_distilled": True}),
    "distilled, thorough": (
        PyramidPlan(DISTILLED, is_thorough_at_first=True),
        {"guidance_scale": 1.0, "is_amplify_first_chunk": True},
        {"is_distilled": True},
    ),
}


@pytest.fixture(scope="module")
def parts():
    return tiny.parts()


class Oracle(HeliosPyramidPipeline):
    """diffusers' pipeline with our noise."""

    chunks = 0

    def prepare_latents(self, batch, channels, height, width, frames, **kwargs):  # noqa: ARG002 - the noise is given
        self.chunks += 1
        self.random = generator_of(1, self.chunks)
        return torch.randn(batch, channels, (frames - 1) // 4 + 1, height // 8, width // 8, generator=self.random)

    def sample_block_noise(self, *args):
        return block_noise(torch.empty(args[:5]), gamma=self.scheduler.config.gamma, generator=self.random)


def round_last(pipeline, step, timestep, found):  # noqa: ARG001 - diffusers' signature
    """A finished chunk as a session's history keeps it."""
    latents = found["latents"]
    is_last = step == pipeline.num_timesteps - 1 and latents.shape[-1] == SHAPE[1] // 8
    return {"latents": latents.half().float() if is_last else latents}


def model_of(parts, case, **options):
    plan, asked, config = CASES[case]
    guidance = {"guidance": asked["guidance_scale"], "is_projected": "is_cfg_zero_star" in config}
    return tiny.helios_of(parts, plan, frame_shape=SHAPE, **guidance, **options)


@pytest.mark.parametrize("case", CASES)
def test_it_ends_where_diffusers_does_to_the_bit(parts, case):
    plan, asked, config = CASES[case]
    player = Player(model_of(parts, case))
    play(player, sections=3)
    pipeline = Oracle(wan.tokenizer(), wan.text_encoder(), parts.vae, plan.scheduler, parts.transformer, **config)
    pipeline.set_progress_bar_config(disable=True)
    latents = pipeline(
        prompt="a cat walks",
        negative_prompt="rain falls",
        height=SHAPE[0],
        width=SHAPE[1],
        num_frames=9 * 3,
        num_latent_frames_per_chunk=SECTION,
        pyramid_num_inference_steps_list=list(plan.steps),
        callback_on_step_end=round_last,
        output_type="latent",
        **asked,
    ).frames
    wanted = np.stack([to_chunk(chunk) for chunk in latents[0, :, -SECTION * 3 :].split(SECTION, dim=1)])
    assert np.array_equal(player.chunks[1:], wanted)
    assert wanted.std() > 0.1


def test_blocks_are_left_out_but_never_at_a_new_size(parts):
    """A cache that never skips changes nothing; one that may skips all but the first of each size, and the last."""
    rules = (None, FirstBlockCache(0), FirstBlockCache(9))
    plain, careful, bold = (model_of(parts, "mid", cache=rule) for rule in rules)
    [expected], [same] = (play(Player(model), sections=1) for model in (plain, careful))
    assert np.array_equal(expected, same)
    player = Player(bold)
    [job] = bold.begin([player.state], [player.rest], [player.history])
    sizes = []
    while job.steps_left:
        sizes.append(job.noisy.shape[-1])
        bold.advance([job])
    assert [cache.num_skipped for cache in job.caches] == [len(sizes) - len(set(sizes)) - 1] * 2


def test_chunks_at_different_sizes_share_what_they_can(parts):
    model = model_of(parts, "distilled, thorough")
    old = Player(model)
    play(old, sections=1)
    young = Player(model, seed=2, image=wan.image(), prompt="rain falls")
    jobs = [player.model.begin([player.state], [player.rest], [player.history])[0] for player in (old, young)]
    sizes = []
    while any(job.steps_left for job in jobs):
        assert all(job.steps_left <= model.spec.num_steps for job in jobs)
        sizes.append(tuple(job.noisy.shape[-1] for job in jobs))
        model.advance(jobs)
        assert model.draft(jobs[1]).shape == (*SHAPE, 3)
    assert len(sizes) == 12  # a first chunk takes twice the steps
    assert {(4, 4), (16, 8)} <= set(sizes)
    shown = [player.end(job) for player, job in zip((old, young), jobs, strict=True)]
    alone_old, alone_young = Player(model), Player(model, seed=2, image=wan.image(), prompt="rain falls")
    [frames] = play(alone_old, sections=2)
    assert np.abs(shown[0].astype(int) - frames[9:]).max() <= 1
    [frames] = play(alone_young, sections=1)
    assert np.abs(shown[1].astype(int) - frames).max() <= 1


@pytest.mark.parametrize("gamma", [0.0, 0.2, 1 / 3])
def test_noise_in_a_block_is_correlated_as_diffusers_means_it(gamma):
    noise = block_noise(torch.empty(1, 4, 4, 64, 64), gamma=gamma, generator=torch.Generator().manual_seed(0))
    blocks = noise.unfold(3, 2, 2).unfold(4, 2, 2).flatten(-2).flatten(0, -2)
    covariance = torch.eye(4) * (1 + gamma) - gamma
    assert torch.allclose(torch.cov(blocks.T), covariance, atol=0.03)
    if gamma == 1 / 3:
        assert blocks.sum(dim=1).abs().max() < 1e-5


def test_frames_and_stages_must_fit(parts):
    with pytest.raises(OptionsError, match="multiples of 64 pixels"):
        tiny.helios_of(parts, PyramidPlan(MID), frame_shape=(48, 64))
    with pytest.raises(CourseError, match="each of the scheduler's 3 stages"):
        PyramidPlan(MID, (2, 2))
