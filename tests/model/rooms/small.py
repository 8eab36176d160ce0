"""A small `rooms` with random weights: the real code, quick enough for tests."""

import torch

from model.rooms.depth import Depth, Reach
from model.rooms.dit import DiT, DiTConfig
from model.rooms.vae import VAE, VAEConfig
from model.rooms.weights import Networks
from model.rooms.world import Rooms

DIT = DiTConfig(width=64, depth=2, context_depth=1)


def networks(seed: int = 0) -> Networks:
    """Networks whose every part has a say: layers that start at zero are filled too."""
    torch.manual_seed(seed)
    vae = VAE(VAEConfig(widths=(8, 8, 16), depths=(1, 1, 1)))
    made = Networks(vae, Depth(width=16), Reach(), DiT(DIT), DiT(DIT, kernels={}))
    for network in made:
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return made


def rooms(seed: int = 0, steps: int = 2, *, sends_scouts: bool = True) -> Rooms:
    made = networks(seed)
    model = Rooms(made, torch.randn(3, 16, 16, 16), steps=steps)
    model.sends_scouts = sends_scouts
    return model
