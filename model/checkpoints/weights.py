"""Tensors of safetensors files, one after the other: sharded or not, and 8-bit floats brought back to what they mean.

An e4m3 weight may have its scale beside it as `scale_weight` or `weight_scale`: one number, one per row, or (rows,
blocks, 1) for blocks of columns. Without one it is the weight itself.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .places import WrongWeightsError

SCALES = ("scale_weight", "weight_scale")
IGNORED = ("scale_input", "input_scale", "scaled_fp8", "comfy_quant", "position_ids")  # of other programs, or constants
FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file."""

    name: str
    shape: tuple[int, ...]
    path: Path


class WeightFiles:
    """What is in one or more files; tensors are read when they are asked for."""

    def __init__(self, paths: Sequence[Path], *, ignored: Iterable[str] = ()) -> None:
        """Reads the headers; tensors whose names `ignored` finds are not there.

        Raises WrongWeightsError for a file that is none, or was not fetched to its end.
        """
        self.paths, ignored = tuple(paths), tuple(ignored)
        stored: dict[str, Stored] = {}
        self._scales: dict[str, Stored] = {}
        for entry in _entries(paths):
            base, _, last = entry.name.rpartition(".")
            if last in SCALES:
                self._scales[base] = entry
            elif last not in IGNORED and not any(re.search(pattern, entry.name) for pattern in ignored):
                stored[entry.name] = entry
        self.stored = stored

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor by its stored name, on the CPU, backed by the file where it needs no scale."""
        for path in self.paths:
            with safe_open(path, framework="pt") as file:
                for name, entry in self.stored.items():
                    if entry.path == path:
                        yield name, self._meaning(name, file.get_tensor(name))

    def _meaning(self, name: str, tensor: Tensor) -> Tensor:
        scale = self._scales.get(name.removesuffix(".weight"))
        if tensor.dtype not in FP8 or scale is None:
            return tensor
        with safe_open(scale.path, framework="pt") as file:
            return _scaled(name, tensor, file.get_tensor(scale.name).float())


def _entries(paths: Iterable[Path]) -> Iterator[Stored]:
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    yield Stored(name, tuple(file.get_slice(name).get_shape()), path)
        except (SafetensorError, OSError) as error:
            raise WrongWeightsError(f"expected safetensors in {path}, which is no such file or cut: {error}") from error


def _scaled(name: str, weight: Tensor, scale: Tensor) -> Tensor:
    """float32 of a weight whose scale has one of the shapes that are in use."""
    if scale.numel() == 1:
        return weight.float() * scale.reshape(())
    rows = weight.shape[0]
    if scale.numel() == scale.shape[0] == rows:
        return weight.float() * scale.reshape(rows, *[1] * (weight.ndim - 1))
    blocks = scale.numel() // rows
    if scale.ndim == 3 and scale.shape[0] == rows and weight.ndim == 2 and weight.shape[1] % blocks == 0:
        return (weight.float().view(rows, blocks, -1) * scale).flatten(1)
    raise WrongWeightsError(
        f"expected one scale for {name} {tuple(weight.shape)}, one for each row or for each block of columns, "
        f"got {tuple(scale.shape)}"
    )
