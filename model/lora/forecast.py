"""What fine-tuning a large model will take, from shapes alone, before its weights are read.

Blocks are computed twice (`framepack.recompute`): of each is kept what went in, and of one at a time what it makes.
"""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from ..checkpoints.fill import Precision
from ..placement.anatomy import Work, denoiser_of, part_of, run_once
from ..placement.cards import free_host_memory
from ..placement.describe import gigabytes
from ..placement.measure import META, measure
from ..placement.plan import CONTEXT_BYTES, ENCODE_BYTES, SLACK, DoesNotFitError
from .task import LoraTask, adapt

LEARNING = 20  # bytes of a number that learns: itself, its gradient, two moments and its average, in float32
MEASURED_FRAMES = 33  # of a video, to encode: longer ones go through piece by piece, and only their pixels are more


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is taught. Everything is on one device: nothing is streamed or quantized."""

    linears: str  # a regular expression of what gets adapters, as `LoraTask` has it
    rank: int
    others: int  # numbers that learn in full
    frames: int  # of the longest episode that is not encoded yet; 0 if all are


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes. VAE, encoders and transformer take turns: each is read when those before it are gone."""

    weights: Mapping[str, int]  # of each network
    encoding: int  # of the longest episode
    reading: int  # of prompts and start images
    learning: int  # adapters and what learns in full, with gradients and the optimizer's state
    kept: int  # what went into all blocks but one
    block: int  # a step with the largest block alone, forward and back
    overhead: int  # of the device's own libraries

    @property
    def turns(self) -> tuple[int, int, int]:
        """The peaks while episodes are encoded, while prompts and start images are, and of a step."""
        vae, transformer = self.weights["vae"], self.weights["transformer"]
        return (
            self.overhead + vae + int(SLACK * self.encoding),
            self.overhead + sum(self.weights.values()) - vae - transformer + self.reading,
            self.overhead + transformer + self.learning + int(SLACK * (self.kept + self.block)),
        )

    @property
    def peak(self) -> int:
        return max(self.turns)


def foresee(
    modules: Mapping[str, nn.Module], lesson: Lesson, work: Work, *, precision: Precision, device: torch.device
) -> Forecast:
    """Of outlined networks in the types that they will have; raises ScheduleError.

    Tests hold it against real steps of miniatures on a CPU; on a GPU it has not been seen.
    """
    denoiser = denoiser_of(modules["transformer"])
    lists = _lists(denoiser)
    alone = {name: _learn(denoiser, name, lesson, work, precision.transformer) for name in lists}
    kept = sum(len(blocks) * alone[name].handed for name, blocks in lists.items())
    is_cuda = device.type == "cuda"
    return Forecast(
        weights={name: part_of(name, module).num_bytes for name, module in modules.items()},
        encoding=_encode(modules["vae"], lesson.frames, work.frame_shape, precision.vae),
        reading=ENCODE_BYTES if is_cuda else 0,
        learning=LEARNING * (lesson.rank * _ends(denoiser, lesson.linears) + lesson.others),
        kept=kept - min(one.handed for one in alone.values()),
        block=max(one.taken for one in alone.values()),
        overhead=CONTEXT_BYTES if is_cuda else 0,
    )


def free_memory(device: torch.device) -> int:
    """Bytes; 0 where it is not known."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_host_memory()


def check(forecasts: Iterator[tuple[str, Forecast]], *, memory: int, tell: Callable[[str], object]) -> None:
    """Tell what the first will take, which is asked for; the others are less, by what they are called.

    Raises DoesNotFitError, with the first that would fit, for more than `memory` bytes; 0 is not known.
    """
    _, asked = next(forecasts)
    tell(describe(asked, memory=memory))
    if not 0 < memory < asked.peak:
        return
    problem = f"expected {gigabytes(asked.peak)} of free memory to train, got {gigabytes(memory)}"
    offers = (f"{what} would take {gigabytes(less.peak)}" for what, less in forecasts if less.peak <= memory)
    offer = next(offers, "and no smaller size would do")
    raise DoesNotFitError(f"{problem}; {offer}", needed=asked.peak, plan=None)


def describe(forecast: Forecast, *, memory: int) -> str:
    """Lines of text for the log."""
    weights, (encoding, reading, step) = dict(forecast.weights), map(gigabytes, forecast.turns)
    vae, transformer = (gigabytes(weights.pop(name)) for name in ("vae", "transformer"))
    encoders = ", ".join(f"{name} {gigabytes(size)}" for name, size in weights.items())
    return (
        f"peak {gigabytes(forecast.peak)} of {gigabytes(memory) if memory else 'unknown'} free, in turns:\n"
        f"  {encoding} to encode episodes: vae {vae}, the longest {gigabytes(forecast.encoding)}\n"
        f"  {reading} to encode prompts and start images: {encoders}\n"
        f"  {step} for a step: transformer {transformer}, what learns, with gradients and optimizer, "
        f"{gigabytes(forecast.learning)}, inputs of blocks {gigabytes(forecast.kept)}, "
        f"the largest block {gigabytes(forecast.block)}"
    )


class _Alone(NamedTuple):
    """One block, in bytes."""

    taken: int  # a step through it
    handed: int  # what it hands to the next one, which keeps it


def _learn(denoiser: nn.Module, only: str, lesson: Lesson, work: Work, dtype: torch.dtype) -> _Alone:
    """A step with the first block of the list `only`, all of whose results are kept."""
    alone = copy.deepcopy(denoiser)
    for name, blocks in _lists(alone).items():
        setattr(alone, name, blocks[: 1 if name == only else 0])
    adapt(LoraTask(alone, lesson.linears, lambda _step: {}), rank=lesson.rank)
    handed: list[int] = []
    (block,) = _lists(alone)[only]
    block.register_forward_hook(lambda _block, _inputs, out: handed.append(sum(t.nbytes for t in tree_leaves(out))))

    def learn() -> None:
        with torch.enable_grad():
            torch.autograd.backward(run_once(alone, work, dtype=dtype).square().mean())

    taken = measure(learn, weights=alone.parameters()).peak_bytes
    return _Alone(taken, handed[0])


def _encode(vae: Any, frames: int, shape: tuple[int, int], dtype: torch.dtype) -> int:
    measured = min(frames, MEASURED_FRAMES)
    if not measured:
        return 0
    some = measure(
        lambda: vae.encode(torch.empty(1, 3, measured, *shape, dtype=dtype, device=META)), weights=vae.parameters()
    )
    return some.peak_bytes + (frames - measured) * 3 * shape[0] * shape[1] * dtype.itemsize


def _lists(denoiser: nn.Module) -> dict[str, nn.ModuleList]:
    return {name: child for name, child in denoiser.named_children() if isinstance(child, nn.ModuleList)}


def _ends(denoiser: nn.Module, linears: str) -> int:
    """Inputs and outputs of all that gets adapters: their weights, for each of the rank."""
    found = [module for name, module in denoiser.named_modules() if re.fullmatch(linears, name)]
    return sum(module.in_features + module.out_features for module in found if isinstance(module, nn.Linear))
