"""LoRA files (arXiv 2106.09685) for a transformer of diffusers', in whatever dialect: merged, or beside the weights.

r rank; a change of a matrix (out, in) is scale * up @ down, with up (out, r) and down (r, in). What few numbers of a
network change besides, such as its biases and norms, files have in full.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .lora_names import flat, parameter_names

DOWN = (".lora_down.weight", ".lora_A.weight", ".lora_A.default.weight", ".lora.down.weight")
UP = (".lora_up.weight", ".lora_B.weight", ".lora_B.default.weight", ".lora.up.weight")
ALPHA = ".alpha"
IN_FULL = {".diff": ".weight", ".diff_b": ".bias", ".diff_m": ".modulation"}
METADATA = "lora_adapter_metadata"  # where diffusers keeps peft's configuration
SHOWN = 4  # names in a message


class LoraError(ValueError):
    """A file that is no LoRA for this transformer; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """Of one matrix."""

    up: Tensor  # (out, r)
    down: Tensor  # (r, in)
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """Of one parameter."""

    by: Tensor


Change = LowRank | Difference


def read_lora(path: Path, transformer: nn.Module) -> dict[str, Change]:
    """Changes by the names of parameters of `transformer`, which may be an outline.

    Raises LoraError for another kind of file, and for parameters that the transformer lacks or has in another size.
    """
    names, parameters = parameter_names(transformer), dict(transformer.named_parameters())
    changes: dict[str, Change] = {}
    unknown = []
    for stored, change in _stored(path):
        targets = names.get(flat(stored))
        if targets is None:
            unknown.append(stored)
            continue
        changed = [parameters[target] for target in targets]
        _check(path, stored, change, changed)
        if twice := changes.keys() & set(targets):
            raise LoraError(f"expected one change of each weight in {path}, got two of {min(twice)}")
        changes |= zip(targets, _split(change, [len(parameter) for parameter in changed]), strict=True)
    if unknown:
        few, [nearest] = sorted(unknown)[:SHOWN], get_close_matches(flat(min(unknown)), names, n=1, cutoff=0)
        raise LoraError(
            f"expected changes of weights of this transformer, such as {nearest}, in {path}, "
            f"got {len(unknown)} of others, such as {', '.join(few)}"
        )
    return changes


@torch.no_grad()
def merge_lora(transformer: nn.Module, changes: Mapping[str, Change], *, strength: float = 1.0) -> None:
    """Add `changes` to the weights, once and for all; nothing is slower afterwards. Before weights are quantized."""
    for name, change in changes.items():
        module, _, key = name.rpartition(".")
        owner = transformer.get_submodule(module)
        weight = getattr(owner, key)
        if isinstance(change, LowRank):
            added = change.scale * (change.up.to(weight.device).float() @ change.down.to(weight.device).float())
        else:
            added = change.by.to(weight.device).float()
        # a new parameter, since the old one may be backed by its file
        setattr(owner, key, nn.Parameter((weight.float() + strength * added).to(weight.dtype), False))


def apply_lora(transformer: Any, changes: Mapping[str, Change], *, name: str, strength: float = 1.0) -> None:
    """Put `changes` beside the weights as peft's adapter `name`: it costs time at every step, and can be switched.

    `transformer` is a diffusers model; it has `set_adapters`, `disable_lora` and `delete_adapters` for what comes next.
    Raises LoraError for changes that are not of low rank.
    """
    weights = {}
    for parameter, change in changes.items():
        if not isinstance(change, LowRank):
            raise LoraError(f"expected changes of low rank beside the weights, got another of {parameter}")
        module = parameter.removesuffix(".weight")
        weights[f"{module}.lora_A.weight"] = change.down
        weights[f"{module}.lora_B.weight"] = change.scale * change.up.float()
    transformer.load_lora_adapter(weights, prefix=None, adapter_name=name)
    transformer.set_adapters([name], weights=[strength])


def _stored(path: Path) -> Iterator[tuple[str, Change]]:
    """Changes by the names of what they change, as the file has them."""
    tensors, alpha = _read(path)
    known = set()
    for name in tensors:
        for ending, kind in IN_FULL.items():
            if name.endswith(ending):
                yield name.removesuffix(ending) + kind, Difference(tensors[name])
                known.add(name)
        for down, up in zip(DOWN, UP, strict=True):
            base = name.removesuffix(down)
            if base != name and base + up in tensors:
                rank = len(tensors[name])
                scale = float(tensors.get(base + ALPHA, alpha or rank)) / rank
                yield f"{base}.weight", LowRank(tensors[base + up], tensors[name], scale)
                known |= {name, base + up, base + ALPHA}
    if rest := sorted(set(tensors) - known):
        raise LoraError(
            f"expected pairs of lora_down and lora_up, or lora_A and lora_B, or differences in {path}, got {rest[0]}"
        )
    if not known:
        raise LoraError(f"expected a LoRA in {path}, got nothing")


def _split(change: Change, rows: list[int]) -> list[Change]:
    """One for each part of a fused weight."""
    if isinstance(change, Difference):
        return [Difference(by) for by in change.by.split(rows)]
    return [LowRank(up, change.down, change.scale) for up in change.up.split(rows)]


def _check(path: Path, stored: str, change: Change, changed: list[nn.Parameter]) -> None:
    expected = sum(len(parameter) for parameter in changed), *changed[0].shape[1:]
    if isinstance(change, Difference):
        fits, got = tuple(change.by.shape) == expected, f"{tuple(change.by.shape)}"
    else:
        up, down = tuple(change.up.shape), tuple(change.down.shape)
        fits, got = (
            len(up) == len(down) == 2 and (up[0], down[1]) == expected and up[1] == down[0],
            f"{up} times {down}",
        )
    if not fits:
        raise LoraError(f"expected a change of {expected} for {stored} in {path}, got {got}")


def _read(path: Path) -> tuple[dict[str, Tensor], float | None]:
    """All tensors, and the alpha that a peft configuration states for all of them."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise LoraError(f"expected a LoRA as safetensors in {path}: {error}") from error
    beside = path.with_name("adapter_config.json")
    text = metadata.get(METADATA) or (beside.read_text() if beside.is_file() else "{}")
    config = {key.rpartition(".")[2]: value for key, value in json.loads(text).items()}
    return tensors, config.get("lora_alpha")
