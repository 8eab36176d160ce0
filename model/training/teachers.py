"""What training the transformer of `rooms` leaves as it is: the networks that know its pictures and their depth.

Legend: B sequences, L targets of each, C x h x w one latent.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..rooms.depth import Depth
from ..rooms.vae import VAE
from .sequences import RECENT, Batch

TEACHING = torch.bfloat16


class Teachers(NamedTuple):
    """Networks that are not trained, in TEACHING once they are frozen."""

    vae: VAE
    depth: Depth


def freeze(teachers: Teachers) -> None:
    for network in teachers:
        network.eval().requires_grad_(False)
        network.to(dtype=TEACHING, memory_format=torch.channels_last)  # type: ignore[call-overload]


def for_teachers(latents: Tensor) -> Tensor:
    """Latents (B, L, C, h, w) as one batch that the teachers take."""
    return latents.flatten(0, 1).to(TEACHING, memory_format=torch.channels_last)


@torch.no_grad()
def with_targets(teachers: Teachers, batch: Batch, frames: Tensor) -> Batch:
    """The batch with `frames` (B, L, C, h, w) as its targets, and the depth that is read from them."""
    depths = teachers.depth(for_teachers(frames)).unflatten(0, frames.shape[:2])
    return batch._replace(
        clip=torch.cat([batch.clip[:, :RECENT], frames], 1), depths=torch.cat([batch.depths[:, :RECENT], depths], 1)
    )


def with_own_depth(teachers: Teachers, batch: Batch, share: float, generator: torch.Generator) -> Batch:
    """For some sequences, the depth that the model reads from each picture alone instead of the recorded one."""
    draws = torch.rand(len(batch.clip), generator=generator, device=batch.clip.device)
    chosen = (draws < share).nonzero().flatten()
    clip, memory = batch.depths.clone(), batch.memory_depths.clone()
    latents = torch.cat([batch.clip, batch.memory], 1)[chosen]
    if len(chosen):
        with torch.no_grad():
            own = teachers.depth(for_teachers(latents)).unflatten(0, latents.shape[:2])
        clip[chosen], memory[chosen] = own[:, : clip.shape[1]], own[:, clip.shape[1] :]
    return batch._replace(depths=clip, memory_depths=memory)
