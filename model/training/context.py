"""What the targets of a training batch are shown by any schedule and order, as play shows it.

Legend: B sequences, L targets of each, G groups of one kind, K source views of a target, C x h x w one latent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..packing.schedule import Schedule
from ..rooms.camera import relative
from ..rooms.dit import KV, DiT, Phases, Target
from ..rooms.layout import Group, Layout, LayoutError, layout_of
from ..rooms.views import SOURCES_AGO, Preview, Sources, composed, encoded, sharpened
from ..rooms.world import SCHEDULE
from .sequences import RECALLED, RECENT, Batch
from .teachers import Teachers, for_teachers

_BEST_FIRST = (RECALLED, *range(1, RECALLED))  # a batch has the best memory last, a history first


@dataclass(frozen=True, slots=True)
class Showing:
    """A schedule, and of how many frames the inverted order makes the last first (1 if time goes forward)."""

    layout: Layout
    ahead: int = 1

    def frames_of(self, slots: tuple[int, ...], targets: int) -> np.ndarray:
        """Where in a clip the frames of recent or future `slots` are, (targets, t); -1 where there is none yet."""
        here, within = np.arange(targets)[:, None], np.arange(targets)[:, None] % self.ahead
        slot = np.array(slots) - self.layout.first_recent
        is_future = slot >= self.layout.recent
        past = RECENT + here - within + slot - self.layout.recent
        future = RECENT + here + 1 + slot - self.layout.recent
        is_made = future < RECENT + here - within + self.ahead
        index = np.where(is_future, np.where(is_made, future, -1), past)
        return np.where(index < RECENT + targets, index, -1)

    def carried(self, targets: int) -> np.ndarray:
        """The frames whose pictures are carried to each target, the nearest first: (targets, K), -1 where fewer."""
        layout = self.layout
        shown = self.frames_of(tuple(range(layout.first_recent, layout.slots)), targets)
        rows = [list(_nearest(row[row >= 0], RECENT + i)) for i, row in enumerate(shown)]
        most = max(map(len, rows))
        return np.array([row + [-1] * (most - len(row)) for row in rows])


def showing_of(schedule: str, *, size: int, ahead: int) -> Showing:
    """Raises ScheduleError, and LayoutError for a schedule that shows more than a batch has, or keeps a tail."""
    parsed = Schedule.parse(schedule)
    layout = layout_of(parsed, size=size)
    too_long = max(layout.recent, layout.future) > RECENT or layout.recalled > RECALLED or not layout.recent
    if too_long or parsed.tail in ("ta", "tc") or parsed.target != 1:
        raise LayoutError(
            f"expected up to {RECENT} recent and {RECALLED} recalled latents, g1 and no tail, got {schedule}"
        )
    return Showing(layout, ahead if parsed.form == "inverted" else 1)


@cache
def shipped(size: int) -> Showing:
    """What the shipped model is shown, of latents of `size` x `size`."""
    return showing_of(SCHEDULE, size=size, ahead=1)


class _Part(NamedTuple):
    """Context tokens of one kind for every target."""

    features: KV  # (depth, B, L, n, D)
    phases: Phases  # (B, L, n, d)
    valid: Tensor  # (B, L, n)


def predict(model: DiT, batch: Batch, showing: Showing, shown: Preview, *, noisy: Tensor, sigma: Tensor) -> Tensor:
    """Clean targets (B, L, C, h, w) from `noisy` ones at `sigma` (B, L), each after what it is shown."""
    controls = batch.controls[:, RECENT:].flatten(0, 1)
    with torch.autocast(noisy.device.type, torch.bfloat16):
        context, bias = packed_context(model, batch, showing)
        target = Target(noisy.flatten(0, 1), sigma.flatten(), controls, shown.base, shown.recalled, shown.shares)
        out = model(target, context, bias)
    clean: Tensor = out.float().unflatten(0, sigma.shape)
    return clean


def packed_context(model: DiT, batch: Batch, showing: Showing) -> tuple[KV, Tensor]:
    """The context of every target: (depth, B*L, m, H, d), and its bias."""
    reference = batch.poses[:, RECENT:]
    parts = list(_parts(model, batch, showing, reference))
    features = KV(*(torch.cat(x, 3).flatten(1, 2) for x in zip(*(part.features for part in parts), strict=True)))
    phases = Phases(*(torch.cat(x, 2).flatten(0, 1) for x in zip(*(part.phases for part in parts), strict=True)))
    own = torch.ones(*reference.shape[:2], len(model.pixels("k1").cos), dtype=torch.bool, device=reference.device)
    valid = torch.cat([*(part.valid for part in parts), own], 2).flatten(0, 1)
    bias = torch.zeros(valid.shape, device=valid.device).masked_fill(~valid, -torch.inf)[:, None, None]
    return model.rotate_context(features, phases), bias.to(features.keys.dtype)


def previews(teachers: Teachers, batch: Batch, showing: Showing, *, edge: float, sharpening: bool = False) -> Preview:
    """What the frames that are shown show of all targets, B*L of them; with `sharpening` as play sharpens it."""
    total = batch.frames.shape[1]
    carried = showing.carried(total - RECENT)
    memory = total + np.array(_BEST_FIRST[: showing.layout.recalled], np.int64)
    index = np.concatenate([carried, np.tile(memory, (len(carried), 1))], 1)  # (L, K)
    used, look = np.unique(index.clip(min=0), return_inverse=True)  # only these are decoded
    arrays = (used, look.reshape(index.shape), index >= 0)
    there, source, is_shown = (torch.from_numpy(x).to(batch.frames.device) for x in arrays)
    latents = torch.cat([batch.clip, batch.memory], 1)[:, there]
    images = teachers.vae.decode(for_teachers(latents)).float().clamp(-1, 1).unflatten(0, latents.shape[:2])
    depths = torch.cat([batch.depths, batch.memory_depths], 1)[:, there]
    poses = torch.cat([batch.poses, batch.memory_poses], 1)[:, there]
    valid = torch.cat([batch.frames >= 0, batch.memory_valid], 1)[:, there]
    sources = Sources(
        relative(poses[:, source], batch.poses[:, RECENT:, None]).flatten(0, 1),
        images[:, source].flatten(0, 1),
        depths[:, source].flatten(0, 1),
        (valid[:, source] & is_shown).flatten(0, 1),
    )
    pictures = composed(sources, edge=edge)
    shown = encoded(teachers.vae, sharpened(pictures) if sharpening else pictures)
    return shown._replace(base=shown.base.float(), recalled=shown.recalled.float())


def _nearest(frames: np.ndarray, target: int) -> Iterator[int]:
    """Up to three frames on either side of a target, as far as SOURCES_AGO says or the farthest, the nearest first."""
    chosen = []
    for side in (-1, 1):
        away = np.sort(side * (frames - target))
        away = away[away > 0]
        for ago in SOURCES_AGO if len(away) else ():
            far_enough = away[away >= ago]
            chosen.append(int(far_enough[0] if len(far_enough) else away[-1]) * side)
    return (target + offset for offset in sorted(dict.fromkeys(chosen), key=abs))


def _parts(model: DiT, batch: Batch, showing: Showing, reference: Tensor) -> Iterator[_Part]:
    layout = showing.layout
    for kind, run in groupby(layout.groups, key=lambda group: group.kind):
        groups = list(run)
        if groups[0].slots[0] >= layout.first_recent:
            yield _moving(model, batch, showing, groups, reference)
        elif groups[0].slots[0] == 0 or groups[0].slots[0] >= layout.starts:
            yield _kept(model, batch, layout, groups, reference)
        else:
            assert kind.startswith("start"), "a batch has the first frame alone, so the start's others stay untaught"


def _kept(model: DiT, batch: Batch, layout: Layout, groups: list[Group], reference: Tensor) -> _Part:
    """The start or recalled latents: the same for all targets of a sequence, seen from each one's pose."""
    (b, length), kind = reference.shape[:2], groups[0].kind
    slots = [slot for group in groups for slot in group.slots]
    index = [0 if slot == 0 else _BEST_FIRST[slot - layout.starts] for slot in slots]
    tokens = model.context_tokens(kind, batch.memory[:, index].flatten(0, 1)[:, None])
    kv = model.context_kv(tokens, model.pixels(kind))
    features = KV(*(x.unflatten(1, (b, 1, -1)).flatten(3, 4).expand(-1, -1, length, -1, -1) for x in kv))
    poses = relative(batch.memory_poses[:, None, index], reference[:, :, None])
    age = (batch.frames[:, RECENT:, None] - batch.memory_frames[:, None, index]).abs().float()
    phases = model.group_phases(kind, poses[..., None, :], age[..., None])
    valid = batch.memory_valid[:, None, index].repeat_interleave(tokens.shape[1], 2).expand(-1, length, -1)
    return _Part(features, Phases(*(x.flatten(2, 3) for x in phases)), valid)


def _moving(model: DiT, batch: Batch, showing: Showing, groups: list[Group], reference: Tensor) -> _Part:
    """Windows of the clip, each encoded once for all targets that it is shown to."""
    (b, length), kind, period = reference.shape[:2], groups[0].kind, len(groups[0].slots)
    frames = np.stack([showing.frames_of(group.slots, length) for group in groups], 1)  # (L, G, t)
    is_whole = (frames >= 0).all(2)
    starts = np.where(is_whole, frames[..., 0], frames[is_whole][:, 0].min(initial=RECENT))
    first, last = int(starts.min()), int(starts.max())
    windows = batch.clip[:, first : last + period].unfold(1, period, 1).movedim(-1, 2)
    tokens = model.context_tokens(kind, windows.flatten(0, 1))
    kv = model.context_kv(tokens, model.pixels(kind))
    place = torch.from_numpy(starts - first).to(reference.device)
    features = KV(*(x.unflatten(1, (b, -1))[:, :, place].flatten(3, 4) for x in kv))
    indices = torch.from_numpy(starts[..., None] + np.arange(period)).to(reference.device)
    poses = relative(batch.poses[:, indices], reference[:, :, None, None])
    age = (batch.frames[:, RECENT:, None, None] - batch.frames[:, indices]).abs().float()
    phases = model.group_phases(kind, poses, age)
    valid = (batch.frames[:, indices[..., 0]] >= 0) & torch.from_numpy(is_whole).to(reference.device)
    return _Part(features, Phases(*(x.flatten(2, 3) for x in phases)), valid.repeat_interleave(tokens.shape[1], 2))
