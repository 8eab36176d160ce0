"""Leaving out blocks: the rules alone, and inside the network against diffusers' cache and against running all."""

import numpy as np
import pytest
import torch
from diffusers.hooks import FirstBlockCacheConfig

from model.framepack.step_cache import TEACACHE_POLYNOMIAL, FirstBlockCache, StepCache, TeaCache
from model.hunyuan.network import Denoiser, packer_of
from tests.model.hunyuan import tiny
from tests.model.hunyuan.test_framepack import lived, still
from tests.model.hunyuan.test_network import KERNELS, Rows

STEPS = 6


@pytest.fixture(scope="module")
def parts():
    return tiny.parts(num_layers=2, num_single_layers=2)


def decisions(rule, signals):
    cache, runs = StepCache(rule, steps=len(signals)), []
    for signal in signals:
        runs.append(cache.must_run(torch.full((2, 3), float(signal))))
        cache.tail(torch.zeros(1), torch.ones(1) if runs[-1] else None)
    assert cache.num_skipped == runs.count(False)
    return runs


def test_the_first_and_the_last_step_always_run():
    assert decisions(FirstBlockCache(threshold=9.0), [1, 1, 1, 1]) == [True, False, False, True]
    assert decisions(TeaCache(threshold=9.0), [1, 1, 1, 1]) == [True, False, False, True]


def test_small_changes_since_the_last_run_add_up():
    """First-block compares with the last run, TeaCache sums changes from step to step."""
    slow = [1.0, 1.03, 1.06, 1.09, 1.12, 1.15, 1.18]
    assert decisions(FirstBlockCache(threshold=0.08), slow) == [True, False, False, True, False, False, True]
    drift = [float(np.polyval(TEACACHE_POLYNOMIAL, 0.03 / before)) for before in slow[:-1]]
    assert 2 * max(drift) < 0.15 < sum(drift[:3])
    assert decisions(TeaCache(threshold=0.15), slow) == [True, False, False, True, False, False, True]


def test_teacache_goes_by_the_step_before_and_not_by_the_last_run():
    """There and back again is twice a change to it."""
    swinging = [1.0, 1.03, 1.0, 1.03, 1.0, 1.03]
    assert decisions(TeaCache(threshold=0.2), swinging) == [True, False, False, False, True, True]


def test_another_size_runs():
    """As where a pyramid is climbed."""
    cache, runs = StepCache(FirstBlockCache(threshold=9.0), steps=9), []
    for size in (2, 2, 4, 4, 2):
        runs.append(cache.must_run(torch.ones(size, 3)))
        cache.tail(torch.zeros(size, 3), torch.ones(size, 3) if runs[-1] else None)
    assert runs == [True, False, True, False, True]


def test_more_steps_than_were_foreseen_run():
    cache = StepCache(FirstBlockCache(threshold=9.0), steps=2)
    for _ in range(4):
        assert cache.must_run(torch.ones(2, 3))
        cache.tail(torch.zeros(2, 3), torch.ones(2, 3))


def test_what_is_no_number_runs():
    assert decisions(FirstBlockCache(), [1.0, float("nan"), 1.0, 1.0])[1]


@torch.no_grad()
def test_teacache_sees_the_same_while_the_first_block_is_elsewhere():
    """A copy of what it looks into stays where blocks are brought only to compute."""
    rows, skipped, velocities = Rows(), [], []
    for is_elsewhere in (False, True):
        transformer = tiny.parts(num_layers=2, num_single_layers=2).transformer
        denoiser, packer = Denoiser(transformer), packer_of(transformer, kernels=KERNELS.values())
        if is_elsewhere:
            denoiser.keep_signal()
            send_away(denoiser.transformer_blocks[0])
        cache, context = StepCache(TeaCache(threshold=0.15), steps=9), rows._context(packer, rows.latents)
        for t in torch.tensor([900.0, 890.0, 880.0, 500.0, 490.0]):
            asked = {"timestep": t[None], "context": context, "given": rows.given, "caches": [cache]}
            velocities.append(denoiser(rows.latents["target"], **asked))
        skipped.append(cache.num_skipped)
    assert 0 < skipped[0] == skipped[1] < 4
    assert all(torch.equal(*pair) for pair in zip(velocities[:5], velocities[5:], strict=True))


def send_away(block):
    """Its weights are there only while it computes."""
    weights = [(parameter, parameter.data.clone()) for parameter in block.parameters()]

    def leave(*_):
        for parameter, _weight in weights:
            parameter.data.fill_(torch.nan)

    def come(*_):
        for parameter, weight in weights:
            parameter.data.copy_(weight)

    leave()
    block.register_forward_pre_hook(come)
    block.register_forward_hook(leave)


@torch.no_grad()
def test_skipped_steps_equal_diffusers_first_block_cache(parts):
    """One cache each; the timesteps are close, so that some run and some do not."""
    transformer = parts.transformer
    denoiser, packer = Denoiser(transformer), packer_of(transformer, kernels=KERNELS.values())
    steps = torch.tensor([900.0, 899.0, 898.0, 500.0, 499.0, 498.0])
    rows, cache, ours = Rows(), StepCache(FirstBlockCache(threshold=0.11), steps=len(steps) + 1), []
    context = rows._context(packer, rows.latents)
    for t in steps:
        velocity = denoiser(rows.latents["target"], timestep=t[None], context=context, given=rows.given, caches=[cache])
        ours.append(velocity)
    transformer.enable_cache(FirstBlockCacheConfig(threshold=0.11))
    with transformer.cache_context("cond"):
        for t, velocity in zip(steps, ours, strict=True):
            rows.timestep = t[None]
            torch.testing.assert_close(velocity, rows.theirs(transformer), rtol=0, atol=2e-6)
    transformer.disable_cache()
    assert 0 < cache.num_skipped < len(steps) - 1


@pytest.mark.parametrize("rule", [TeaCache(threshold=1e-9), FirstBlockCache(threshold=0.0)])
def test_a_cache_that_never_skips_changes_nothing(parts, rule):
    plain, cached = tiny.framepack_of(parts, steps=STEPS), tiny.framepack_of(parts, steps=STEPS, cache=rule)
    np.testing.assert_array_equal(lived(cached, sections=1)[1], lived(plain, sections=1)[1])


@pytest.mark.parametrize("rule", [TeaCache(threshold=0.5), FirstBlockCache(threshold=0.2)])
def test_sessions_in_one_batch_skip_each_for_itself(parts, rule):
    model = tiny.framepack_of(parts, steps=STEPS, cache=rule)
    worlds = [lived(model, seed=i, sections=0)[0] for i in range(2)]
    jobs = [model.begin([world.state], [still(model)], [world.session._history()])[0] for world in worlds]
    model.advance(jobs[:1])
    model.advance(jobs[:1])  # ahead of the other
    while jobs[1].steps_left:
        model.advance(jobs)
    for i, section in enumerate(model.finish(jobs)):
        alone = lived(model, seed=i, sections=1)[1][-3:]
        np.testing.assert_allclose(section.latents.astype(np.float32), alone, rtol=0, atol=4e-3)
    skipped = [job.caches[0].num_skipped for job in jobs]
    assert all(0 < number < STEPS - 1 for number in skipped)
