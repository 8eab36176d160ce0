"""Worlds from words begin with what plain Wan paints of them."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

from model.sampling import UniPC, sigmas_of

from . import tiny


@pytest.fixture(scope="module")
def parts():
    return tiny.parts()


class Scheduler(FlowMatchEulerDiscreteScheduler):
    """Our UniPC in diffusers' pipeline."""

    def set_timesteps(self, num_inference_steps, device=None):  # noqa: ARG002 - diffusers' signature
        sigmas = sigmas_of(num_inference_steps, shift=3.0)
        self.solver, self.sigmas, self.timesteps = UniPC(sigmas), sigmas, sigmas[:-1] * 1000

    def step(self, velocity, timestep, x, return_dict):  # noqa: ARG002 - diffusers' signature
        return (self.solver.step(x, velocity),)


def test_the_first_frame_is_plain_wans(parts):
    model = tiny.wan_of(parts, steps=3)
    pipeline = WanPipeline(
        tiny.tokenizer(), tiny.text_encoder(), parts.vae, Scheduler(shift=1.0), transformer=parts.transformer
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 16, 1, 6, 10, generator=torch.Generator().manual_seed(7))
    theirs = pipeline(
        "a cat walks", "rain falls", height=48, width=80, num_frames=1, num_inference_steps=3, latents=noise
    ).frames[0]
    frame = (theirs * 255).round().astype(np.uint8)
    opened = model.open(prompt="a cat walks", seed=7).start.latents
    assert np.array_equal(opened, model.open(image=frame[0], prompt="a cat walks", seed=7).start.latents)
    assert frame.std() > 1


def test_prompt_and_seed_decide_and_a_painting_is_kept(parts):
    model, passes = tiny.wan_of(parts, guidance=1.0), []
    model.network.denoiser.register_forward_hook(lambda *_: passes.append(1))
    asked = [("rain", 1), ("fish", 1), ("rain", 2)]
    starts = [model.open(prompt=prompt, seed=seed).start.latents for prompt, seed in asked]
    assert len(passes) == 3 * model.options.steps
    assert not any(np.array_equal(starts[0], other) for other in starts[1:])
    assert np.array_equal(model.open(prompt="rain", seed=1).start.latents, starts[0])
    assert len(passes) == 3 * model.options.steps


def test_given_starts_are_preferred(parts):
    given = [tiny.image(seed=i) for i in range(2)]
    model = tiny.wan_of(parts, starts=given)
    expected = tiny.wan_of(parts).open(image=given[1]).start.latents
    assert np.array_equal(model.open(prompt="rain", seed=3).start.latents, expected)
