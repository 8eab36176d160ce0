"""Flow-matching samplers as functions, one step at a time: x_sigma = (1 - sigma) x_0 + sigma noise."""

import math

from torch import Tensor


def flow_sigmas(steps: int, *, shift: float = 1.0) -> list[float]:
    """Noise levels from 1 to 0, `steps` + 1 of them, shifted towards noise (SD3, arXiv 2403.03206, eq. 23).

    Raises ValueError unless steps >= 1 and shift > 0.
    """
    if steps < 1 or not (shift > 0 and math.isfinite(shift)):
        raise ValueError(f"expected at least 1 step and a positive shift, got {steps} steps and shift {shift}")
    even = [1 - i / steps for i in range(steps + 1)]
    return [shift * s / (1 + (shift - 1) * s) for s in even]


def euler_step(x: Tensor, denoised: Tensor, sigma: Tensor, next_sigma: Tensor) -> Tensor:
    """One Euler step of the flow from `sigma` to `next_sigma`, each (B,), given the predicted clean x (B, ...)."""
    ratio = (next_sigma / sigma).view(-1, *(1,) * (x.ndim - 1))
    return denoised + ratio * (x - denoised)
