"""Modules without memory, and weights put into them: every parameter of exactly its shape."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from accelerate import init_empty_weights
from torch import nn

from .places import Found, WrongWeightsError
from .wan_names import originals
from .weights import WeightFiles

Module = TypeVar("Module", bound=nn.Module)

PREFIXES = ("", "model.", "text_model.", "vision_model.", "transformer.", "model.diffusion_model.", "diffusion_model.")
SHOWN = 4  # names in a message


@dataclass(frozen=True, slots=True)
class Target:
    """Where and as what weights are kept; parameters whose whole name `precise` matches are kept in float32."""

    device: torch.device
    dtype: torch.dtype
    precise: str = ""

    def dtype_of(self, name: str) -> torch.dtype:
        return torch.float32 if re.fullmatch(self.precise, name) else self.dtype


@dataclass(frozen=True, slots=True)
class Precision:
    """What weights are kept in where they are multiplied, by the kind of network."""

    transformer: torch.dtype
    encoders: torch.dtype
    vae: torch.dtype

    def of(self, component: str) -> torch.dtype:
        return {"transformer": self.transformer, "vae": self.vae}.get(component, self.encoders)


EXACT = Precision(torch.float32, torch.float32, torch.float32)


class Slots(NamedTuple):
    """The parameters of a module. Those that are tied are one, with several places."""

    places: dict[str, list[tuple[nn.Module, str]]]  # by the first name: owners, with the name in each
    names: dict[str, str]  # of every name, the first


def outline(make: Callable[[], Module]) -> Module:
    """A module whose parameters have shapes only; its constants are real."""
    with init_empty_weights(include_buffers=False):
        module: Any = make()
    if hasattr(module, "tie_weights"):  # transformers' own; what was tied before was undone by emptying
        module.tie_weights()
    return module.eval()  # type: ignore[no-any-return]


def fill(module: Module, found: Found, target: Target) -> Module:
    """Give an outlined module its weights, reading each when its turn comes; raises WrongWeightsError, says which.

    Names are the module's own, or for a Wan those of Wan's own code. On the CPU, weights that are stored in the wanted
    type stay backed by their file.
    """
    slots = slots_of(module)
    files, names = _fit(module, found, slots)
    try:
        _fill(files, slots, names, target)
    except WrongWeightsError as error:
        raise found.wrong(str(error)) from error
    return module.to(target.device)


def check_fit(module: nn.Module, found: Found) -> None:
    """By the heads of the files alone; raises WrongWeightsError."""
    _fit(module, found, slots_of(module))


def _fit(module: nn.Module, found: Found, slots: Slots) -> tuple[WeightFiles, dict[str, str]]:
    """Files, and the module's name of every tensor in them."""
    try:
        files = WeightFiles(found.weights, ignored=_ignored(module))
        return files, _own_names(files, slots)
    except WrongWeightsError as error:
        raise found.wrong(str(error)) from error


def _fill(files: WeightFiles, slots: Slots, names: Mapping[str, str], target: Target) -> None:
    for stored, tensor in files:
        kept = nn.Parameter(tensor.to(target.device, target.dtype_of(names[stored])), requires_grad=False)
        for owner, key in slots.places[names[stored]]:
            setattr(owner, key, kept)


def _ignored(module: Any) -> tuple[str, ...]:
    """What diffusers and transformers know that files of this class hold for nothing, as regular expressions."""
    return tuple(getattr(module, "_keys_to_ignore_on_load_unexpected", None) or ())


def slots_of(module: nn.Module) -> Slots:
    first: dict[int, str] = {}
    slots = Slots({}, {})
    for path, owner in module.named_modules():
        for key, parameter in owner._parameters.items():
            if parameter is not None:
                alias = f"{path}.{key}".lstrip(".")
                name = first.setdefault(id(parameter), alias)
                slots.places.setdefault(name, []).append((owner, key))
                slots.names[alias] = name
    return slots


def _own_names(files: WeightFiles, slots: Slots) -> dict[str, str]:
    """The module's name of every stored tensor, once all of them fit."""
    known = {other: slots.names[name] for other, name in originals(slots.names).items()} | slots.names
    prefix = max(PREFIXES, key=lambda prefix: sum(name.removeprefix(prefix) in known for name in files.stored))
    names = {stored: known.get(stored.removeprefix(prefix), "") for stored in files.stored}
    unknown, missing = [stored for stored, name in names.items() if not name], set(slots.places) - set(names.values())
    if missing or unknown:
        where = ", ".join(path.name for path in files.paths)
        raise WrongWeightsError(
            f"expected {len(slots.places)} weights in {where}; missing: {_few(missing)}; unknown: {_few(unknown)}"
        )
    for stored, name in names.items():
        owner, key = slots.places[name][0]
        expected, got = tuple(getattr(owner, key).shape), files.stored[stored].shape
        if expected != got:
            raise WrongWeightsError(f"expected {name} of shape {expected}, got {got}")
    return names


def _few(names: Iterable[str]) -> str:
    listed = sorted(names)
    rest = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return (", ".join(listed[:SHOWN]) or "none") + rest
