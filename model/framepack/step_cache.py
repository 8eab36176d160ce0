"""Leaving out blocks at steps that change little: what is kept of one section's earlier steps, and the rules."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

TEACACHE_POLYNOMIAL = (733.226126, -401.131952, 67.5869174, -3.149878, 0.0961237896)  # FramePack's, from any resolution


class Rule(Protocol):
    """When to run the blocks again."""

    @property
    def watches_input(self) -> bool:
        """Whether the signal is the first block's modulated input, else what the first block adds."""

    def drift(self, change: float, before: float) -> float:
        """The drift after a relative `change` of the signal, from the drift `before` it."""

    @property
    def threshold(self) -> float: ...


@dataclass(frozen=True, slots=True)
class TeaCache:
    """Sum of a polynomial in the changes since the last run (arXiv 2411.19108), as FramePack uses it."""

    threshold: float = 0.15  # 0.1 and 0.15 are said to give 1.6 and 2.1 times the speed
    watches_input: bool = True

    def drift(self, change: float, before: float) -> float:
        return before + float(np.polyval(TEACACHE_POLYNOMIAL, change))


@dataclass(frozen=True, slots=True)
class FirstBlockCache:
    """Change of what the first block adds since the last run, as diffusers' cache of this name."""

    threshold: float = 0.05
    watches_input: bool = False

    def drift(self, change: float, before: float) -> float:  # noqa: ARG002 - the signal is compared to the last run's
        return change


class StepCache:
    """One section's. It belongs to the section's job and ends with it, so sessions share nothing."""

    def __init__(self, rule: Rule, *, steps: int) -> None:
        self.rule = rule
        self._steps_left = steps
        self._signal: Tensor | None = None  # (N, D)
        self._residual: Tensor | None = None  # (n, D): what the blocks that may be left out added to the target
        self._drift = 0.0
        self.num_skipped = 0

    def must_run(self, signal: Tensor) -> bool:
        """Take the step's `signal` (N, D) and decide; call `tail` next. The first and last step always run."""
        self._steps_left -= 1
        before = self._signal
        if before is not None:
            change = ((signal - before).abs().mean() / before.abs().mean()).item()
            self._drift = self.rule.drift(change, self._drift)
        runs = before is None or not self._steps_left or not self._drift < self.rule.threshold
        if runs:
            self._drift = 0.0
        if runs or self.rule.watches_input:
            self._signal = signal
        return runs

    def tail(self, head: Tensor, tail: Tensor | None) -> Tensor:
        """The target's hidden tokens (n, D) after all blocks, from `head` before them and `tail` if they ran."""
        if tail is not None:
            self._residual = tail - head
            return tail
        assert self._residual is not None, "a first step always runs"
        self.num_skipped += 1
        return head + self._residual
