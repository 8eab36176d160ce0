"""Samplers against diffusers' schedulers, and their order against a flow whose solution is known."""

import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st

from model.sampling import Euler, UniPC, euler, euler_step, flow_sigmas, shift_of_tokens, sigmas_of

SPREAD = 0.5  # standard deviation of the clean data of `gaussian`, around 1


def gaussian(x, sigma):
    """The exact velocity of the flow whose clean data are normal."""
    variance = (1 - sigma) ** 2 * SPREAD**2 + sigma**2
    denoised = 1 + (1 - sigma) * SPREAD**2 / variance * (x - (1 - sigma))
    return (x - denoised) / sigma


def landed(x):
    """Where the exact flow takes noise `x`, at sigma 0."""
    return 1 + SPREAD * x


def odd(x, sigma):
    """A velocity that is no easy function of x or sigma."""
    return torch.sin(3 * x + sigma) - sigma * x


def run(solver, x, velocity):
    trail = []
    while solver.done < len(solver.sigmas) - 1:
        x = solver.step(x, velocity(x, solver.sigmas[solver.done]))
        trail.append(x)
    return trail


@pytest.fixture
def noise():
    return torch.randn(1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("steps", "shift"), [(0, 1.0), (4, 0.0), (4, -1.0), (4, math.inf), (4, math.nan)])
def test_impossible_schedules_are_refused(steps, shift):
    with pytest.raises(ValueError, match=f"got {steps} steps and shift"):
        flow_sigmas(steps, shift=shift)


@given(st.integers(1, 60), st.floats(0.2, 20))
def test_sigmas_fall_from_1_to_0(steps, shift):
    sigmas = flow_sigmas(steps, shift=shift)
    assert (sigmas[0], sigmas[-1], len(sigmas)) == (pytest.approx(1.0), 0.0, steps + 1)
    assert all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False))


@pytest.mark.parametrize("steps", [1, 4, 25, 50])
def test_sigmas_are_those_of_diffusers(steps):
    even = np.linspace(1, 0, steps + 1)[:-1]
    fixed = FlowMatchEulerDiscreteScheduler(shift=7.0)
    fixed.set_timesteps(sigmas=even)
    torch.testing.assert_close(sigmas_of(steps, shift=7.0), fixed.sigmas, rtol=0, atol=1.2e-7)
    dynamic = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    dynamic.set_timesteps(sigmas=even, mu=0.9)
    torch.testing.assert_close(sigmas_of(steps, shift=math.exp(0.9)), dynamic.sigmas, rtol=0, atol=1.2e-7)


def test_the_shift_is_that_of_framepack():
    assert shift_of_tokens(256) == pytest.approx(math.exp(0.5))
    assert shift_of_tokens(4096) == pytest.approx(math.exp(1.15))
    assert shift_of_tokens(1560) == pytest.approx(2.06, abs=0.005)  # one latent at 480 x 832
    assert shift_of_tokens(8797) < shift_of_tokens(8799) == shift_of_tokens(14040) == 7.0


def test_euler_equals_diffusers_to_the_bit(noise):
    solver = Euler(sigmas_of(7, shift=7.0))
    oracle = FlowMatchEulerDiscreteScheduler(shift=1.0)
    oracle.set_timesteps(sigmas=solver.sigmas[:-1].tolist())
    x = noise
    for i, ours in enumerate(run(solver, noise, odd)):
        x = oracle.step(odd(x, solver.sigmas[i]), oracle.timesteps[i], x, return_dict=False)[0]
        assert torch.equal(ours, x)


def test_both_forms_of_euler_are_one(noise):
    sigmas = sigmas_of(5, shift=3.0)
    trail = run(Euler(sigmas), noise, odd)
    x = noise
    for i, ours in enumerate(trail):
        x = euler_step(x, x - sigmas[i] * odd(x, sigmas[i]), sigmas[i : i + 1], sigmas[i + 1 : i + 2])
        torch.testing.assert_close(ours, x)
    levels = sigmas.tolist()
    whole = euler(noise, lambda x, sigma: x - sigma.view(-1, *(1,) * (x.ndim - 1)) * odd(x, sigma[0]), levels)
    torch.testing.assert_close(whole, trail[-1])


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_equals_diffusers(noise, order):
    steps = 12
    oracle = UniPCMultistepScheduler(
        use_flow_sigmas=True,
        prediction_type="flow_prediction",
        flow_shift=1.0,
        solver_type="bh1",
        solver_order=order,
        lower_order_final=False,
    )
    oracle.set_timesteps(sigmas=np.array(flow_sigmas(steps, shift=3.0)[:-1]))
    solver = UniPC(oracle.sigmas, order=order, clock=lambda sigma: math.log((1 - sigma) / sigma))
    x = noise
    trail = run(solver, noise, odd)
    for i in range(steps - 1):  # the last step of diffusers' solver would divide by zero here
        x = oracle.step(odd(x, oracle.sigmas[i]), oracle.timesteps[i], x, return_dict=False)[0]
        torch.testing.assert_close(trail[i], x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("order", "least"), [(1, 1.7), (2, 2.7), (3, 3.0)])
def test_the_error_falls_with_the_order_of_the_solver(order, least):
    """UniPC-p is of order p + 1, its first steps of less; measured where the polynomial is at home, in float64."""
    x = torch.tensor([2.0], dtype=torch.float64)

    def error(steps):
        sigmas = torch.exp(-torch.linspace(0.2, 1.2, steps + 1, dtype=torch.float64))
        start = _at(x, sigmas[0])
        solver = UniPC(torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)]), order=order)
        *_, end, _clean = run(solver, start, gaussian)
        return (end - _at(x, sigmas[-1])).abs().item()

    assert math.log2(error(16) / error(32)) > least


def test_few_steps_of_unipc_beat_as_many_of_euler(noise):
    unipc, euler = (run(solver(sigmas_of(8, shift=1.0)), noise, gaussian)[-1] for solver in (UniPC, Euler))
    assert (unipc - landed(noise)).abs().mean() < 0.5 * (euler - landed(noise)).abs().mean()


@pytest.mark.parametrize("solver", [Euler, UniPC])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_single_clean_image_is_found_in_any_number_of_steps(noise, solver, steps):
    clean = torch.full_like(noise, 0.3)
    x = run(solver(sigmas_of(steps, shift=7.0)), noise, lambda x, sigma: (x - clean) / sigma)[-1]
    torch.testing.assert_close(x, clean, atol=1e-6, rtol=0)


def _at(noise, sigma):
    """The exact flow of `gaussian` from `noise`, at `sigma`."""
    return (1 - sigma) + ((1 - sigma) ** 2 * SPREAD**2 + sigma**2).sqrt() * noise
