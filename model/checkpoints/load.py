"""From a name and the folders to look in to networks with their weights, in three steps that a plan may come between.

`find` says what is missing, `outline` makes modules without memory, `fill_all` reads the weights to where each belongs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers.models.transformers.transformer_helios import HeliosTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import nn

from . import framepack, wan
from .catalog import components
from .fill import Precision, Target, fill
from .modules import precise_names
from .places import Found, Shelf, stand_in

Modules = Mapping[str, nn.Module]


class Assemble(Protocol):
    """Puts filled networks together with their tokenizers."""

    def __call__(self, modules: Modules, found: Mapping[str, Found], *, device: torch.device) -> Any: ...


@dataclass(frozen=True, slots=True)
class Family:
    """What models of one kind have in common."""

    outline: Callable[[Mapping[str, Found]], dict[str, nn.Module]]
    assemble: Assemble
    precision: Precision
    precise: str  # parameters of the transformer that stay in float32


FRAMEPACK = Family(framepack.outline_framepack, framepack.framepack_parts, framepack.PRECISION, framepack.PRECISE)
WAN = Family(wan.outline_wan, wan.wan_parts, wan.PRECISION, precise_names(WanTransformer3DModel))
HELIOS = Family(wan.outline_helios, wan.helios_parts, wan.PRECISION, precise_names(HeliosTransformer3DModel))
FAMILIES = {"framepack-f1": FRAMEPACK, "framepack-i2v": FRAMEPACK, "wan": WAN, "wan-14b": WAN, "helios": HELIOS}


def find(shelf: Shelf, model: str, *, transformer: Path | None = None) -> dict[str, Found]:
    """The files of every component of `model`; raises UnknownCheckpointError or MissingWeightsError.

    `transformer` is one file, or the index of several, that stands in for the repository's weights, in any of the types
    that are in use; a Wan's may have Wan's own names, and need no configuration.
    """
    wanted = dict(components(model))
    if transformer is None:
        return {name: shelf.find(component) for name, component in wanted.items()}
    own = stand_in(wanted.pop("transformer"), transformer)
    return {"transformer": own} | {name: shelf.find(component) for name, component in wanted.items()}


def fill_all(
    family: Family,
    modules: Modules,
    found: Mapping[str, Found],
    *,
    at: Mapping[str, torch.device],
    precision: Precision | None = None,
) -> Modules:
    """Read the weights of every network to the device that `at` names; raises WrongWeightsError."""
    kept = precision or family.precision
    for name, module in modules.items():
        fill(module, found[name], Target(at[name], kept.of(name), family.precise if name == "transformer" else ""))
    return modules


def load(
    shelf: Shelf,
    model: str,
    *,
    device: torch.device,
    precision: Precision | None = None,
    transformer: Path | None = None,
) -> Any:
    """All of it on one device: the `Parts` of its family. Raises MissingWeightsError or WrongWeightsError."""
    family, found = FAMILIES[model], find(shelf, model, transformer=transformer)
    modules = family.outline(found)
    fill_all(family, modules, found, at=dict.fromkeys(modules, device), precision=precision)
    return family.assemble(modules, found, device=device)
