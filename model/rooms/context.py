"""What the transformer of `rooms` is shown of a session: groups of its history's slots, packed once and kept.

Legend: m context tokens, n target tokens, H heads, d head size, C x h x w one latent.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..world_model import History
from .camera import relative
from .dit import KV, DiT, Phases
from .layout import Group

CACHED_GROUPS = 128  # of each session, or twice as many as it shows at a time

Key = tuple[str, tuple[int, ...]]
Cache = dict[Key, KV]  # features by kind and latent indices, the one not used for longest first


class Shown(NamedTuple):
    """What one session shows for one target."""

    groups: Sequence[Group]
    history: History
    cache: Cache


class Contexts:
    """Packs histories for one transformer."""

    def __init__(self, dit: DiT, *, dtype: torch.dtype, device: torch.device) -> None:
        self._dit, self._dtype, self._device = dit, dtype, device

    def encode_missing(self, shown: Sequence[Shown]) -> None:
        """Compute the features of all groups that are not in their session's cache yet."""
        missing: dict[tuple[int, Key], Tensor] = {}
        for i, (groups, history, cache) in enumerate(shown):
            for group in groups:
                key, slots = _key(group, history), list(group.slots)
                if key in cache:
                    cache[key] = cache.pop(key)
                elif history.valid[slots].all():
                    missing[i, key] = torch.from_numpy(history.latents[slots].astype("float32"))
        if not missing:
            return
        lengths, features = self._encode([(key[0], latents) for (_, key), latents in missing.items()])
        for (i, key), keys, values in zip(
            missing, features.keys.split(lengths, 2), features.values.split(lengths, 2), strict=True
        ):
            groups, _, cache = shown[i]
            cache[key] = KV(keys, values)
            while len(cache) > max(CACHED_GROUPS, 2 * len(groups)):
                del cache[next(iter(cache))]

    def pack(self, shown: Shown, *, pose: Tensor, now: int) -> tuple[KV, Tensor]:
        """The context with the phases seen from `pose` (3,) at latent `now`, (depth, 1, m, H, d), and its bias.

        The bias, (1, 1, 1, m + n), leaves out slots that are empty.
        """
        groups, history, cache = shown
        poses, indices = torch.from_numpy(history.poses), torch.from_numpy(history.indices)
        features, phases, usable = [], [], []
        for group in groups:
            slots = list(group.slots)
            known, tokens = bool(history.valid[slots].all()), len(self._dit.pixels(group.kind).cos)
            features.append(cache[_key(group, history)] if known else self._no_features(tokens))
            seen_from, age = relative(poses[slots], pose), (now - indices[slots]).abs().float()
            phases.append(self._dit.group_phases(group.kind, seen_from[None], age[None]))
            usable.append(torch.full((tokens,), known))
        usable.append(torch.ones(len(self._dit.pixels("k1").cos), dtype=torch.bool))
        kv = KV(*(torch.cat(part, 2) for part in zip(*features, strict=True)))
        rotated = self._dit.rotate_context(kv, Phases(*(torch.cat(part, 1) for part in zip(*phases, strict=True))))
        return rotated, bias_of(torch.cat(usable).to(self._device))

    def _encode(self, groups: Sequence[tuple[str, Tensor]]) -> tuple[list[int], KV]:
        """Lengths and features of groups of latents (t, C, h, w), all in one row where none sees another."""
        tokens: list[Tensor] = []
        phases: list[Phases] = []
        owners: list[Tensor] = []
        for kind, latents in groups:
            tokens.append(self._dit.context_tokens(kind, latents.to(self._device, self._dtype)[None]))
            phases.append(self._dit.pixels(kind))
            owners.append(torch.full((tokens[-1].shape[1],), len(owners), device=self._device))
        owner = torch.cat(owners)
        bias = torch.zeros(len(owner), len(owner), dtype=self._dtype, device=self._device)
        bias = bias.masked_fill(owner[:, None] != owner, -torch.inf)
        pixels = Phases(*(torch.cat(part) for part in zip(*phases, strict=True)))
        return [len(part) for part in owners], self._dit.context_kv(torch.cat(tokens, 1), pixels, bias)

    def _no_features(self, tokens: int) -> KV:
        shape = (self._dit.config.depth, 1, tokens, self._dit.config.width)
        return KV(*(torch.zeros(shape, dtype=self._dtype, device=self._device) for _ in range(2)))


def bias_of(usable: Tensor) -> Tensor:
    """What is added to attention logits, (1, 1, 1, m): nothing for `usable` (m,) tokens, else -inf."""
    return torch.zeros(usable.shape, device=usable.device).masked_fill(~usable, -torch.inf)[None, None, None]


def _key(group: Group, history: History) -> Key:
    return group.kind, tuple(int(i) for i in history.indices[list(group.slots)])
