"""A plan carried out on networks whose weights have been read: hooks that stream, and weights that stay."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.hooks.group_offloading import apply_group_offloading
from torch import nn

from .plan import Plan
from .quantize import quantize

HOST = torch.device("cpu")


def homes(plan: Plan, *, device: torch.device) -> dict[str, torch.device]:
    """Where the loader reads each part to. What is streamed, or quantized layer by layer, begins on the host."""
    waits = plan.streamed | ({"transformer"} if plan.quantized else set())
    return {placed.part.name: HOST if placed.part.name in waits else device for placed in plan.placed}


def settle(
    plan: Plan,
    parts: Mapping[str, Any],
    *,
    denoiser: nn.Module,
    packer: nn.Module,
    device: torch.device,
    compute: torch.dtype,
) -> None:
    """Quantize, stream and tile as the plan has it; call it once, when `denoiser` has been made of the transformer.

    `parts` are the networks that the loader filled, whose quantized layers multiply as `compute`. On a GPU copies
    overlap with computing, through a stream of theirs.
    """
    quantize(denoiser, plan.quantized, device=HOST if "transformer" in plan.streamed else device, compute=compute)
    packer.to(device)
    if plan.tiles:
        parts["vae"].enable_tiling()
    for name in plan.streamed:
        if name == "transformer":
            stream(denoiser, device=device, by_block=True, pinned=plan.pinned)
        else:
            stream(parts[name], device=device, by_block=False, pinned=plan.pinned and name == "vae")
    if "transformer" not in plan.streamed:
        denoiser.to(device)


def stream(module: nn.Module, *, device: torch.device, by_block: bool, pinned: bool) -> None:
    """Keep the weights of `module` on the host, and bring each block or layer to `device` while it computes."""
    overlaps = device.type == "cuda"
    apply_group_offloading(
        module,
        onload_device=device,
        offload_device=HOST,
        offload_type="block_level" if by_block else "leaf_level",
        num_blocks_per_group=1 if by_block else None,
        use_stream=overlaps,
        low_cpu_mem_usage=overlaps and not pinned,
    )
