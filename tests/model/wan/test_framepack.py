"""`wan` as it is played: plain Wan's pipeline where nothing is remembered, and sessions that share forward passes."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

from model.framepack.network import Row
from model.framepack.options import OptionsError, kernels_of
from model.framepack.pictures import to_uint8
from model.framepack.step_cache import FirstBlockCache, TeaCache
from model.packing.pack import KernelError, Piece
from model.sampling import Euler, sigmas_of
from model.wan.framepack import WAN, latent_format, network_of
from model.wan.guided import Guidance
from model.world_model import History

from . import tiny

REST = np.zeros((12, 4), np.float32)


@pytest.fixture(scope="module")
def parts():
    return tiny.parts()


class Scheduler(FlowMatchEulerDiscreteScheduler):
    """diffusers' Euler at given noise levels."""

    def set_timesteps(self, num_inference_steps, device=None):
        given = sigmas_of(num_inference_steps, shift=3.0)[:-1].numpy()
        super().set_timesteps(sigmas=given, device=device)


def forget(frames, grid):
    """A history in which nothing is valid."""
    nothing = torch.zeros(1, frames, dtype=torch.bool)
    return Piece(torch.zeros(1, 16, frames, *grid), torch.arange(frames)[None], (1, 2, 2), nothing)


@torch.no_grad()
@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize(("frames", "shape"), [(1, (64, 64)), (3, (48, 80))])
def test_without_a_history_it_is_the_pipeline_of_plain_wan(parts, guidance, frames, shape):
    noise = torch.randn(1, 16, frames, shape[0] // 8, shape[1] // 8, generator=torch.Generator().manual_seed(3))
    pipeline = WanPipeline(
        tiny.tokenizer(), tiny.text_encoder(), parts.vae, Scheduler(shift=1.0), transformer=parts.transformer
    )
    pipeline.set_progress_bar_config(disable=True)
    asked = {"prompt": "a cat walks", "negative_prompt": "rain falls", "guidance_scale": guidance, "latents": noise}
    size = {"height": shape[0], "width": shape[1], "num_frames": 4 * frames - 3, "num_inference_steps": 4}
    theirs = pipeline(**asked, **size, output_type="latent").frames

    options = tiny.wan_of(parts).options
    network = network_of(parts, kernels=kernels_of(WAN, options), guidance=Guidance(guidance, "rain falls"))
    given = network.condition((("a cat walks", 1.0),), None)
    context = network.pack([forget(2, noise.shape[-2:])], target=torch.arange(frames)[None])
    solver, noisy = Euler(sigmas_of(4, shift=3.0)), noise
    while solver.done < 4:
        noisy = solver.step(noisy, network.velocity([Row(noisy, solver.sigmas[solver.done], context, given)]))
    assert torch.equal(noisy, theirs)
    assert (theirs - noise).abs().mean() > 0.1


@torch.no_grad()
def test_latents_are_those_of_diffusers(parts):
    pictures = tiny.wan_of(parts).pictures
    latents = torch.randn(16, 3, 6, 10, generator=torch.Generator().manual_seed(0))
    pipeline = WanPipeline(tiny.tokenizer(), None, parts.vae, None, transformer=parts.transformer)
    form = latent_format(parts.vae)
    theirs = parts.vae.decode((latents / form.scale + form.shift)[None], return_dict=False)[0]
    wanted = pipeline.video_processor.postprocess_video(theirs, output_type="np")[0]
    assert np.array_equal(to_uint8(pictures.decode(latents)), (wanted * 255).round().astype(np.uint8))
    config = parts.vae.config
    assert form.shift[3, 0, 0, 0] == pytest.approx(config.latents_mean[3])
    assert form.scale[3, 0, 0, 0] == pytest.approx(1 / config.latents_std[3])
    video = np.stack([tiny.image(seed=i) for i in range(5)])
    pixels = torch.tensor(video).permute(3, 0, 1, 2)[None] / 127.5 - 1
    coded = (parts.vae.encode(pixels).latent_dist.mode() - form.shift) * form.scale
    torch.testing.assert_close(pictures.encode_video(video), coded[0].transpose(0, 1), rtol=0, atol=1e-5)


class Player:
    """One session and its latents, as the server keeps them."""

    def __init__(self, model, *, seed, prompt="a cat"):
        self.model, self.state = model, model.open(image=tiny.image(seed=seed), prompt=prompt, seed=seed)
        self.latents = self.state.start.latents

    @property
    def history(self):
        spec = self.model.spec
        indices = np.arange(len(self.latents) - spec.num_recent, len(self.latents))
        recent = np.where((indices >= 0)[:, None, None, None], self.latents[indices.clip(0)], 0)
        return History(
            latents=np.concatenate([self.latents[:1], recent]),
            indices=np.concatenate([[0], indices.clip(0)]),
            poses=np.zeros((1 + len(indices), 3), np.float32),
            valid=np.concatenate([[True], indices >= 0]),
        )

    def begin(self, controls=REST):
        return self.model.begin([self.state], [controls], [self.history])[0]

    def end(self, job):
        [section] = self.model.finish([job])
        self.latents = np.concatenate([self.latents, section.latents])
        return self.model.decode([self.state], [section])[0]


def play(*players, sections, controls=REST):
    """The frames of each player, all stepping together."""
    shown = [[] for _ in players]
    for _ in range(sections):
        jobs = [player.begin(controls) for player in players]
        while jobs[0].steps_left:
            players[0].model.advance(jobs)
        for frames, player, job in zip(shown, players, jobs, strict=True):
            frames.append(player.end(job))
    return [np.concatenate(frames) for frames in shown]


def test_a_session_plays_on_and_again(parts):
    model = tiny.wan_of(parts)
    assert (model.spec.name, model.spec.section_latents, model.spec.frame_rate) == ("wan", 3, 16.0)
    [first], [again] = (play(Player(model, seed=1), sections=3) for _ in range(2))
    assert first.shape == (36, 48, 80, 3)
    assert np.array_equal(first, again)
    assert first[:12].std() > 1
    assert not np.array_equal(first[:12], first[12:24])


def test_the_large_model_has_a_name_of_its_own():
    assert tiny.wan_of(tiny.parts(num_attention_heads=40, attention_head_dim=6, num_layers=1)).spec.name == "wan-14b"


def test_sessions_of_any_age_share_forward_passes(parts):
    model = tiny.wan_of(parts)
    old, young = Player(model, seed=1), Player(model, seed=2, prompt="rain")
    play(old, sections=2)
    together = play(old, young, sections=1)
    [before, alone_old], [alone_young] = (
        np.split(play(Player(model, seed=1), sections=3)[0], [24]),
        play(Player(model, seed=2, prompt="rain"), sections=1),
    )
    assert len(before) == 24
    assert np.abs(together[0].astype(int) - alone_old).max() <= 1
    assert np.abs(together[1].astype(int) - alone_young).max() <= 1


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_sessions_leave_out_blocks_each_for_itself(parts, guidance):
    model = tiny.wan_of(parts, guidance=guidance, steps=6, cache=FirstBlockCache(0.5))
    players = [Player(model, seed=1), Player(model, seed=2, prompt="rain")]
    jobs = [player.begin() for player in players]
    model.advance(jobs[:1])  # ahead of the other
    while jobs[1].steps_left:
        model.advance(jobs)
    skipped = [[cache.num_skipped for cache in job.caches] for job in jobs]
    assert all(len(passes) == (1 if guidance == 1 else 2) and 0 < sum(passes) < 5 * len(passes) for passes in skipped)
    for i, (player, job) in enumerate(zip(players, jobs, strict=True)):
        [alone] = play(Player(model, seed=1 + i, prompt=("a cat", "rain")[i]), sections=1)
        assert np.abs(player.end(job).astype(int) - alone).max() <= 1


def test_a_cache_that_never_skips_changes_nothing(parts):
    cached, plain = (Player(tiny.wan_of(parts, cache=rule), seed=1) for rule in (FirstBlockCache(0.0), None))
    np.testing.assert_array_equal(*(play(player, sections=1)[0] for player in (cached, plain)))


def test_history_prompt_and_keys_all_count(parts):
    model = tiny.wan_of(parts)
    [shown] = play(Player(model, seed=1), sections=1)
    [prompted] = play(Player(model, seed=1, prompt="slowly rain falls"), sections=1)
    moved = REST.copy()
    moved[:, 0] = 1
    [steered] = play(Player(model, seed=1), sections=1, controls=moved)
    other = Player(model, seed=1)
    other.latents = other.latents + np.float16(0.5)
    [remembered] = play(other, sections=1)
    for changed in (prompted, steered, remembered):
        assert not np.array_equal(shown, changed)


def test_what_it_cannot_do_is_refused(parts):
    with pytest.raises(OptionsError, match="expected cache=first-block"):
        tiny.wan_of(parts, cache=TeaCache())
    model = tiny.wan_of(parts)
    piece = Piece(torch.zeros(1, 16, 8, 6, 10), torch.arange(8)[None], (8, 16, 16))
    with pytest.raises(KernelError, match="expected kernels"):
        model.network.pack([piece], target=torch.arange(3)[None])
