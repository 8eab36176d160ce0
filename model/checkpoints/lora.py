"""LoRA files (arXiv 2106.09685) for a transformer of diffusers', in whatever dialect: merged, or beside the weights.

r rank; a change of a Linear module (out, in) is scale * up @ down, with up (out, r) and down (r, in).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .lora_names import flat, module_names

DOWN = (".lora_down.weight", ".lora_A.weight", ".lora_A.default.weight", ".lora.down.weight")
UP = (".lora_up.weight", ".lora_B.weight", ".lora_B.default.weight", ".lora.up.weight")
ALPHA = ".alpha"
METADATA = "lora_adapter_metadata"  # where diffusers keeps peft's configuration
SHOWN = 4  # names in a message


class LoraError(ValueError):
    """A file that is no LoRA for this transformer; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Of one Linear module."""

    up: Tensor  # (out, r)
    down: Tensor  # (r, in)
    scale: float


def read_lora(path: Path, transformer: nn.Module) -> dict[str, Change]:
    """Changes by the names of Linear modules of `transformer`, which may be an outline.

    Raises LoraError for another kind of file, and for modules that the transformer lacks or has in another size.
    """
    tensors, alpha = _read(path)
    names = module_names(transformer)
    linears = {name: module for name, module in transformer.named_modules() if isinstance(module, nn.Linear)}
    changes: dict[str, Change] = {}
    unknown = []
    for base, pair in _pairs(path, tensors).items():
        targets = names.get(flat(base))
        if targets is None:
            unknown.append(base)
            continue
        scale = float(tensors.get(base + ALPHA, alpha or len(pair.down))) / len(pair.down)
        _check(path, base, pair, [linears[target] for target in targets])
        ups = pair.up.split([linears[target].out_features for target in targets])
        changes |= {target: Change(up, pair.down, scale) for target, up in zip(targets, ups, strict=True)}
    if unknown:
        few, [nearest] = sorted(unknown)[:SHOWN], get_close_matches(flat(min(unknown)), names, n=1, cutoff=0)
        raise LoraError(
            f"expected changes of modules of this transformer, such as {nearest}, in {path}, "
            f"got {len(unknown)} of others, such as {', '.join(few)}"
        )
    return changes


@torch.no_grad()
def merge_lora(transformer: nn.Module, changes: Mapping[str, Change], *, strength: float = 1.0) -> None:
    """Add `changes` to the weights, once and for all; nothing is slower afterwards. Before weights are quantized."""
    for name, change in changes.items():
        linear: Any = transformer.get_submodule(name)
        weight = linear.weight
        added = change.up.to(weight.device).float() @ change.down.to(weight.device).float()
        # a new parameter, since the old one may be backed by its file
        linear.weight = nn.Parameter((weight.float() + strength * change.scale * added).to(weight.dtype), False)


def apply_lora(transformer: Any, changes: Mapping[str, Change], *, name: str, strength: float = 1.0) -> None:
    """Put `changes` beside the weights as peft's adapter `name`: it costs time at every step, and can be switched.

    `transformer` is a diffusers model; it has `set_adapters`, `disable_lora` and `delete_adapters` for what comes next.
    """
    weights = {f"{module}.lora_A.weight": change.down for module, change in changes.items()}
    weights |= {f"{module}.lora_B.weight": change.scale * change.up.float() for module, change in changes.items()}
    transformer.load_lora_adapter(weights, prefix=None, adapter_name=name)
    transformer.set_adapters([name], weights=[strength])


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    up: Tensor
    down: Tensor


def _pairs(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, _Pair]:
    """Both matrices by their common name."""
    pairs: dict[str, _Pair] = {}
    known = set()
    for name in tensors:
        for down, up in zip(DOWN, UP, strict=True):
            base = name.removesuffix(down)
            if base != name and base + up in tensors:
                pairs[base] = _Pair(tensors[base + up], tensors[name])
                known |= {name, base + up, base + ALPHA}
    if rest := sorted(set(tensors) - known):
        raise LoraError(f"expected pairs of lora_down and lora_up, or lora_A and lora_B, in {path}, got {rest[0]}")
    if not pairs:
        raise LoraError(f"expected a LoRA in {path}, got nothing")
    return pairs


def _check(path: Path, base: str, pair: _Pair, linears: list[nn.Linear]) -> None:
    expected = sum(linear.out_features for linear in linears), linears[0].in_features
    got = tuple(pair.up.shape), tuple(pair.down.shape)
    rank = len(pair.down)
    if got != ((expected[0], rank), (rank, expected[1])):
        raise LoraError(f"expected a change of {expected} for {base} in {path}, got {got[0]} times {got[1]}")


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
