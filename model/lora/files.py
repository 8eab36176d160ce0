"""What fine-tuning leaves behind: `lora.safetensors` in peft's dialect, which diffusers loads too, and the modules
beside it that learned in full in `learned.safetensors`. Playing needs no peft: adapters go into the weights.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..checkpoints.lora import LoraError, merge_lora, read_lora

LORA, LEARNED = "lora.safetensors", "learned.safetensors"
HAS_LEARNED = "has_learned"  # of the adapters' metadata: modules that learned in full belong to them
PREFIX = "transformer."  # where diffusers' pipelines have the network


def save_lora(folder: Path, *, lora: Mapping[str, Tensor], learned: Mapping[str, Tensor]) -> None:
    """Write both files whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    adapters = {PREFIX + name: weight for name, weight in lora.items()}
    _save(folder / LORA, adapters, metadata={HAS_LEARNED: "yes" if learned else "no"})
    if learned:
        _save(folder / LEARNED, learned)


def fuse_lora(folder: Path, network: nn.Module, *, learned: Mapping[str, nn.Module]) -> None:
    """Add the adapters in `folder` to the Linear modules of `network`, and load the modules that learned in full.

    Raises LoraError, before it changes anything, if they do not fit.
    """
    if not (folder / LORA).exists():
        raise LoraError(f"expected {folder / LORA}; `rewander train lora` writes it")
    changes, loaded = read_lora(folder / LORA, network), _load_learned(folder, learned)
    merge_lora(network, changes)
    for parameter, weight in loaded:
        parameter.data.copy_(weight)


def _load_learned(folder: Path, learned: Mapping[str, nn.Module]) -> list[tuple[Tensor, Tensor]]:
    """Parameters with what they become; those that did not learn stay as they are."""
    path = folder / LEARNED
    weights = load_file(path) if path.exists() else {}
    own = {f"{name}.{key}": p for name, module in learned.items() for key, p in module.named_parameters()}
    for name, weight in weights.items():
        if name not in own or own[name].shape != weight.shape:
            raise LoraError(f"expected weights of {', '.join(own) or 'nothing'} in {path}, got {name} of another size")
    with safe_open(folder / LORA, "pt") as file:
        has_learned = (file.metadata() or {}).get(HAS_LEARNED) == "yes"
    if has_learned and not weights:
        raise LoraError(f"expected {path} beside the adapters; `rewander train lora` writes it")
    return [(own[name], weight) for name, weight in weights.items()]


def _save(path: Path, weights: Mapping[str, Tensor], *, metadata: Mapping[str, str] = MappingProxyType({})) -> None:
    partial = path.with_suffix(".part")
    there = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    save_file(there, partial, {"format": "pt", **metadata})
    partial.rename(path)
