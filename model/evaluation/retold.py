"""A `rooms` that is shown its memories otherwise than it keeps them: of another age, discretized or noisy."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ..drift.alternatives import noise_history
from ..drift.discretize import Codebook, discretize_history
from ..rooms.state import RoomsJob, RoomsState
from ..rooms.world import Rooms
from ..world_model import History

AGE = 17  # latents, of memories that are all of one age: within the recent window

Retelling = Callable[[History, slice], History]  # the slots are those of the memories


class Retold:
    """A `WorldModel` that is shown each history as `retell` has it."""

    def __init__(self, model: Rooms, retell: Retelling) -> None:
        self._begin, self._retell, self._memories = model.begin, retell, slice(1, 1 + model.spec.num_recalled)
        self.spec, self.open, self.resume, self.set_prompt = model.spec, model.open, model.resume, model.set_prompt
        self.expected_poses, self.encode = model.expected_poses, model.encode
        self.features, self.sight = model.features, model.sight
        self.advance, self.finish, self.decode = model.advance, model.finish, model.decode

    def begin(
        self, states: Sequence[RoomsState], controls: Sequence[np.ndarray], histories: Sequence[History]
    ) -> list[RoomsJob]:
        for state in states:
            state.cache.clear()  # it knows latents by their indices, which may now be others'
        return self._begin(states, controls, [self._retell(history, self._memories) for history in histories])


def of_one_age(history: History, memories: slice) -> History:
    """Memories as if they were AGE latents old, one after the other, since no two latents have one index."""
    indices = history.indices.copy()
    count = len(indices[memories])
    indices[memories] = np.where(history.valid[memories], indices[-1] + 1 - AGE - np.arange(count), 0)
    return replace(history, indices=indices)


def discretized(history: History, memories: slice, *, codebook: Codebook) -> History:
    """Memories of the codebook's entries."""
    made = discretize_history(replace(history, valid=_only(history, memories)), codebook)
    return replace(history, latents=made.latents)


def noisy(history: History, memories: slice, *, sigma: float) -> History:
    """Memories with noise, the same for a memory whenever it is shown."""
    latents = history.latents.copy()
    for slot in np.flatnonzero(_only(history, memories)):
        generator = torch.Generator().manual_seed(int(history.indices[slot]))
        latent = torch.from_numpy(latents[slot].astype(np.float32))[None, :, None]
        latents[slot] = noise_history(latent, sigma=sigma, generator=generator)[0, :, 0].half().numpy()
    return replace(history, latents=latents)


def _only(history: History, memories: slice) -> np.ndarray:
    valid = np.zeros_like(history.valid)
    valid[memories] = history.valid[memories]
    return valid
