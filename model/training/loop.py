"""The training loop: steps, EMA, checkpoints to resume from, a log and sample strips."""

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass(frozen=True, slots=True)
class Run:
    """One training run: `folder` holds its checkpoint, log and samples."""

    folder: Path
    steps: int
    warmup: int = 100
    cooldown: float = 0.3  # share of the steps over which the rate falls to zero
    ema: float = 0.999
    checkpoint_every: float = 120.0  # seconds
    sample_every: int = 500


def fit(
    run: Run,
    model: nn.Module,
    *,
    optimizers: Sequence[Optimizer],
    loss: Callable[[nn.Module, int], dict[str, Tensor]],
    sample: Callable[[nn.Module, Path], None] | None = None,
) -> nn.Module:
    """Train `model` to `run.steps`, from the folder's checkpoint if there is one; returns the EMA model.

    `loss(model, step)` returns named scalars, of which `loss` is minimised. `sample(ema, path)` draws a
    picture of what the EMA model can do. A run that was killed loses at most `checkpoint_every` seconds.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    ema = copy.deepcopy(model).requires_grad_(False)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    step = _load(run.folder / "checkpoint.pt", model, ema, optimizers)
    saved = logged = time.monotonic()
    totals: dict[str, float] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress, (run.folder / "log.jsonl").open("a") as log:
        bar = progress.add_task(run.folder.name, total=run.steps, completed=step)
        while step < run.steps:
            scale = _rate(run, step)
            for optimizer, lrs in zip(optimizers, rates, strict=True):
                for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                    group["lr"] = lr * scale
                optimizer.zero_grad(set_to_none=True)
            losses = loss(model, step)
            losses["loss"].backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
            step += 1
            progress.update(bar, completed=step)
            _update(ema, model, min(run.ema, step / (step + 10)))
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value.item()
            if step % 25 == 0:
                now = time.monotonic()
                line = {name: round(total / 25, 5) for name, total in totals.items()}
                log.write(json.dumps({"step": step, "seconds": round((now - logged) / 25, 3), **line}) + "\n")
                log.flush()
                totals, logged = {}, now
                progress.update(bar, description=f"{run.folder.name} loss {line['loss']:.4f}")
            if sample is not None and (step % run.sample_every == 0 or step == run.steps):
                sample(ema, run.folder / f"sample_{step:07d}.png")
            if time.monotonic() - saved > run.checkpoint_every or step == run.steps:
                _save(run.folder / "checkpoint.pt", model, ema, optimizers, step)
                saved = time.monotonic()
    return ema


def _rate(run: Run, step: int) -> float:
    """Linear warm-up, a plateau, and a linear fall to zero (trapezoid)."""
    left = (run.steps - step) / max(1, run.cooldown * run.steps)
    return min(1.0, (step + 1) / run.warmup, left)


@torch.no_grad()
def _update(ema: nn.Module, model: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)
    for mine, theirs in zip(ema.buffers(), model.buffers(), strict=True):
        mine.copy_(theirs)


def _save(path: Path, model: nn.Module, ema: nn.Module, optimizers: Sequence[Optimizer], step: int) -> None:
    state = {
        "model": model.state_dict(),
        "ema": ema.state_dict(),
        "optimizers": [o.state_dict() for o in optimizers],
        "step": step,
    }
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def _load(path: Path, model: nn.Module, ema: nn.Module, optimizers: Sequence[Optimizer]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    ema.load_state_dict(state["ema"])
    if "model" not in state:  # only weights, to begin from
        model.load_state_dict(state["ema"])
        return 0
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"])
