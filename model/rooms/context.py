"""What the transformer of `rooms` is shown of a session: groups of its history's slots, packed once and kept.

Legend: m context tokens, n target tokens, H heads, d head size, C x h x w one latent.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..world_model import History
from .camera import relative
from .dit import KV, DiT, Phases, pose_angles, product
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
        known = [bool(history.valid[list(group.slots)].all()) for group in groups]
        lengths = [len(self._dit.pixels(group.kind).cos) for group in groups]
        kept = (
            cache[_key(group, history)] if is_known else self._no_features(tokens)
            for group, is_known, tokens in zip(groups, known, lengths, strict=True)
        )
        kv = KV(*(torch.cat(part, 2) for part in zip(*kept, strict=True)))
        usable = torch.tensor([*known, True]).repeat_interleave(
            torch.tensor([*lengths, len(self._dit.pixels("k1").cos)])
        )
        phases = self._phases(groups, history, lengths, pose=pose, now=now)
        return self._dit.rotate_context(kv, phases), bias_of(usable.to(self._device))

    def _phases(
        self, groups: Sequence[Group], history: History, lengths: Sequence[int], *, pose: Tensor, now: int
    ) -> Phases:
        """Phases (1, m, d) of the `lengths` of tokens of all `groups`, as `DiT.group_phases` has those of each."""
        slots = [slot for group in groups for slot in group.slots]
        owners = torch.tensor([i for i, group in enumerate(groups) for _ in group.slots])
        counts = torch.tensor([[len(group.slots)] for group in groups])
        of_tokens = torch.arange(len(groups)).repeat_interleave(torch.tensor(lengths))
        seen_from = relative(torch.from_numpy(history.poses[slots]), pose)
        angles = pose_angles(seen_from, torch.from_numpy(abs(now - history.indices[slots])).float())

        def pooled(x: Tensor) -> Tensor:
            sums = x.new_zeros(len(groups), x.shape[1]).index_add_(0, owners, x)
            return (sums / counts)[of_tokens].to(self._device)

        frames = Phases(pooled(angles.cos()), pooled(angles.sin()))
        pixels = Phases(*map(torch.cat, zip(*(self._dit.pixels(group.kind) for group in groups), strict=True)))
        return Phases(*(part[None] for part in product(frames, pixels)))

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
