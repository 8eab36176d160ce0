"""Sends the scouts of sessions, and shows what they saw: see `scouting` for why.

Legend: B sessions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .camera import displacement_between
from .dit import DiT
from .looks import LooksCache
from .scouting import GAP, NEWS, SCOUTS, Scout, ahead, news, paint, views_of
from .state import RoomsState
from .vae import VAE
from .views import Pictures, Sources, composed, filled, latents_of, seen_from, shares_of


class Scouts:
    """What `painter` makes up, as a world's autoencoder and looks know it."""

    def __init__(self, vae: VAE, painter: DiT, looks: LooksCache, device: torch.device) -> None:
        self._vae, self._painter, self._looks, self._device = vae, painter, looks, device
        self._camera, self._size = painter.config.camera, painter.config.latent_size

    def filled(self, states: Sequence[RoomsState], known: Pictures, pose: Tensor) -> Pictures:
        """`known` pictures from `pose` (B, 3), and what the scouts of `states` show of what these do not."""
        scouts = views_of([state.scouts for state in states], self._looks, device=self._device)
        return known if scouts is None else filled(known, seen_from(scouts, pose), edge=self._camera.edge)

    def sent(
        self, states: Sequence[RoomsState], views: Sources, control: Tensor, pose: Tensor, *, known: Pictures
    ) -> Pictures:
        """The same, after scouts have gone for those that would have seen what nobody has in `known` pictures.

        `views` are what these were put together from, `control` (B, A) leads to `pose` (B, 3).
        """
        pictures = self.filled(states, known, pose)
        is_new = (news(shares_of(pictures, self._size)) > NEWS).tolist()
        due = [i for i, s in enumerate(states) if is_new[i] and s.sections - s.scouted >= GAP and s.moves_to(pose[i])]
        if not due:
            return pictures
        going, near, goal = [states[i] for i in due], Sources(*(x[due] for x in views)), pose[due]
        here = torch.stack([state.pose for state in going]).to(self._device)
        there = ahead(self._camera, here, control[due], moved=displacement_between(self._camera, here, goal))
        seen = self.filled(going, composed(seen_from(near, there), edge=self._camera.edge), there)
        base = latents_of(self._vae, seen.both[:, :1])[:, 0].float()
        noise = torch.cat([state.noise(base.shape[1:]) for state in going]).to(self._device)
        painted = paint(self._painter, base, shares_of(seen, self._size), noise=noise)
        for state, latent, place in zip(going, painted.half().cpu().numpy(), there.cpu(), strict=True):
            state.scouts, state.scouted = (*state.scouts, Scout(latent, place))[-SCOUTS:], state.sections
        again = self.filled(going, Pictures(*(x[due] for x in known)), goal)
        index = torch.tensor(due, device=self._device)
        return Pictures(*(x.index_copy(0, index, y) for x, y in zip(pictures, again, strict=True)))
