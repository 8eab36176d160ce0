"""Leaving out blocks at steps that change little: what is kept of one section's earlier steps, and the rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

Rows = list[int] | slice  # of a batch
Run = Callable[[Sequence[nn.Module], Tensor, Rows], Tensor]  # blocks on the hidden tokens (b, N, D) of these rows

EVERY = slice(None)
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
    """One section's, of one pass for each step. It ends with the section's job, so sessions share nothing."""

    def __init__(self, rule: Rule, *, steps: int) -> None:
        self.rule = rule
        self._steps_left = steps
        self._signal: Tensor | None = None  # (N, D)
        self._residual: Tensor | None = None  # (n, D): what the blocks that may be left out added to the target
        self._drift = 0.0
        self.num_skipped = 0

    def must_run(self, signal: Tensor) -> bool:
        """Take the step's `signal` (N, D) and decide; call `tail` next.

        The first and the last step always run, and so do steps of another size than the one before.
        """
        self._steps_left -= 1
        before = self._signal if self._signal is not None and self._signal.shape == signal.shape else None
        if before is not None:
            change = ((signal - before).abs().mean() / before.abs().mean()).item()
            self._drift = self.rule.drift(change, self._drift)
        runs = before is None or self._steps_left <= 0 or not self._drift < self.rule.threshold
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


def step_caches(rule: Rule | None, *, steps: int, passes: int) -> tuple[StepCache, ...]:
    """Of one section by `rule`; none without one."""
    return tuple(StepCache(rule, steps=steps) for _ in range(passes)) if rule else ()


def run_or_keep(
    caches: Sequence[StepCache], signal: Tensor, head: Tensor, *, run: Callable[[list[int]], Tensor]
) -> Tensor:
    """The target's hidden tokens (B, n, D) after all blocks, which `run` only for rows that must.

    `signal` (B, N, D) is what decides, `head` (B, n, D) the target before the blocks that may be left out.
    """
    rows = [i for i, cache in enumerate(caches) if cache.must_run(signal[i])]
    tails = iter(run(rows) if rows else ())
    return torch.stack([cache.tail(head[i], next(tails) if i in rows else None) for i, cache in enumerate(caches)])


def run_from_first(
    blocks: Sequence[nn.Module], hidden: Tensor, caches: Sequence[StepCache], *, run: Run, num_target: int
) -> Tensor:
    """The target's tokens (B, n, D), the last of `hidden` (B, N, D), after all `blocks`.

    With `caches` the first block always runs, and the others where what it adds to the target has changed.
    """
    if not caches:
        return run(blocks, hidden, EVERY)[:, -num_target:]
    begun = run(blocks[:1], hidden, EVERY)
    head = begun[:, -num_target:]
    signal = head - hidden[:, -num_target:]
    return run_or_keep(caches, signal, head, run=lambda rows: run(blocks[1:], begun[rows], rows)[:, -num_target:])
