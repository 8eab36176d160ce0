"""The next frame as far as earlier frames show it: the frame before and recalled ones, seen from the next camera.

The transformer only corrects this and makes up the rest. Carrying pixels and encoding them again is ten times
closer to the true latents than carrying latents (see the design notes in README.md).

Legend: B targets, K sources of each, H x H pixels, m x m inverse depth in 1/m, C x h x w one latent.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .camera import relative
from .geometry import gather, look_back, over, splat, spread
from .vae import VAE

NEARBY = 0.5  # doubt below which memory, resampled once, is truer than the frame before, resampled in every frame
SHARPENING, STRONG = 0.15, 0.1  # share of its fine detail that a picture is given more; contrast that gets half of that
SOURCES_AGO = (1, 8, 16)  # frames; the recent ones that are carried to the target, beside the recalled


def sources_ago(recent: int) -> tuple[int, ...]:
    """SOURCES_AGO for a schedule that shows `recent` frames: none that it does not show."""
    return tuple(dict.fromkeys(min(ago, recent) for ago in SOURCES_AGO))


class Sources(NamedTuple):
    """Earlier frames; the first is the one before the target."""

    poses: Tensor  # (B, K, 3) relative to the target's camera
    images: Tensor  # (B, K, 3, H, H) in [-1, 1]
    depths: Tensor  # (B, K, m, m)
    valid: Tensor  # (B, K) bool


class Preview(NamedTuple):
    """What is known of the next frame before it is made."""

    base: Tensor  # (B, C, h, w): memory from nearby, else the frame before, else memory, else scouts
    recalled: Tensor  # (B, C, h, w): memory, and `base` where that shows nothing
    shares: Tensor  # (B, 2, h, w) in [0, 1]: how much of each position the frame before and memory show


def seen_from(views: Sources, pose: Tensor) -> Sources:
    """Views in the world as sources of targets at `pose` (B, 3)."""
    return views._replace(poses=relative(views.poses, pose[:, None]))


class Pictures(NamedTuple):
    """The same as pixels, not encoded yet."""

    both: Tensor  # (B, 2, 3, H, H): those of the base, and of what is recalled
    shares: Tensor  # (B, 2, H, H), 0 or 1


def encoded(vae: VAE, pictures: Pictures) -> Preview:
    base, recalled = latents_of(vae, pictures.both).unbind(1)
    return Preview(base, recalled, shares_of(pictures, base.shape[-1]))


def sharpened(pictures: Pictures) -> Pictures:
    """With the fine detail that resampling takes, which pictures of pictures would have less of each time.

    An unsharp mask with a core: the stronger a contrast is, the less is added, or edges would grow from frame to frame.
    """
    flat = pictures.both.flatten(0, 1)
    detail = flat - F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, 1)
    more = SHARPENING * detail / (1 + (detail / STRONG).square())
    return pictures._replace(both=(flat + more).clamp(-1, 1).view_as(pictures.both))


def latents_of(vae: VAE, pictures: Tensor) -> Tensor:
    """Encode pictures (B, n, 3, H, H): (B, n, C, h, w)."""
    flat = pictures.flatten(0, 1).to(vae.mean.dtype).contiguous(memory_format=torch.channels_last)
    latents: Tensor = vae.encode(flat).unflatten(0, pictures.shape[:2])
    return latents


def shares_of(pictures: Pictures, size: int) -> Tensor:
    """`Preview.shares` (B, 2, h, w) for h = w = `size`."""
    return F.avg_pool2d(pictures.shares, pictures.shares.shape[-1] // size)


def composed(sources: Sources, *, edge: float) -> Pictures:
    """What the sources show of the target."""
    size, pixels = sources.depths.shape[-1], sources.images.shape[-1]
    poses, images, depths, valid = sources
    near = splat(poses[:, :1], depths[:, :1], valid[:, :1], edge=edge, size=size)
    far = splat(poses[:, 1:], depths[:, 1:], valid[:, 1:], edge=edge, size=size)
    shape = spread(over(near, far))
    shape = F.interpolate(shape[:, None], size=(pixels, pixels), mode="bilinear", align_corners=False)[:, 0]
    where, _, inside = look_back(poses[:, :1], shape, pixels, edge)
    before = F.grid_sample(images[:, 0], where[:, 0], padding_mode="border", align_corners=False)
    here = inside & (F.interpolate(near.known[:, None], size=(pixels, pixels), mode="nearest") > 0)
    memory, doubt = gather(poses[:, 1:], images[:, 1:], depths[:, 1:], valid[:, 1:], seen=far, edge=edge)
    there = doubt.isfinite()
    base = torch.where((here & (doubt > NEARBY)) | ~there, before, memory)
    known = torch.cat([here, there], 1).to(images.dtype)
    return Pictures(torch.stack([base, torch.where(there, memory, base)], 1), known)


def filled(pictures: Pictures, scouts: Sources, *, edge: float) -> Pictures:
    """`pictures` with what `scouts`, views that were never shown, show where nothing else does: it counts as memory."""
    seen = splat(scouts.poses, scouts.depths, scouts.valid, edge=edge, size=scouts.depths.shape[-1])
    made, doubt = gather(*scouts, seen=seen, edge=edge)
    is_new = (pictures.shares.amax(1, keepdim=True) == 0) & doubt.isfinite()
    both = torch.where(is_new[:, None], made[:, None], pictures.both)
    return Pictures(both, torch.cat([pictures.shares[:, :1], pictures.shares[:, 1:] + is_new], 1))
