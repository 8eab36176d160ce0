"""Weights of `rooms` with what `rewander train lora --model rooms` made of them: a folder of adapters, fused."""

import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..checkpoints.lora import LoraError
from ..lora.files import fuse_lora
from ..packing.schedule import Schedule
from .layout import layout_of
from .weights import SHIPPED, Networks, load_weights

VARIANT = "variant.json"  # beside the adapters: which schedules they learned, and so which kernels they have


def load_tuned(folder: Path = SHIPPED, adapters: Path | None = None, *, device: str = "cpu") -> tuple[Networks, Tensor]:
    """Networks in float32 and starts, with the `adapters` of a folder in the transformer if there is one.

    Raises what `load_weights` does, and LoraError for adapters that are not there or do not fit.
    """
    networks, starts = load_weights(folder, device=device)
    if adapters is not None:
        path = adapters / VARIANT
        if not path.exists():
            raise LoraError(f"expected {path}; `rewander train lora --model rooms` writes it")
        add_kernels_for(networks, json.loads(path.read_text())["schedules"])
        fuse_lora(adapters, networks.dit, learned={"patchify": networks.dit.patchify})
    return networks, starts


def add_kernels_for(networks: Networks, schedules: Sequence[str]) -> None:
    """Have weights for all kernels of `schedules`; raises ScheduleError and LayoutError."""
    for schedule in schedules:
        layout = layout_of(Schedule.parse(schedule), size=networks.dit.config.latent_size)
        networks.dit.add_kernels(layout.kernels)
