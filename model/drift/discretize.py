"""History discretization (+D, arXiv 2504.12626 v3, section 4.2): history pixels become entries of a K-means codebook.

It belongs to checkpoints that were trained with it. Apply it to history after the VAE and before patchify: never to the
noisy target, and it leaves padding alone. Fewer entries mean less drift and less coherence.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..world_model import History

FORMAT = "rewander.codebook.v1"
CODEBOOK = "codebook.safetensors"  # in the folder of the weights that were trained with it
_CHUNK = 16_384  # pixels looked up at a time, so that memory stays flat


class CodebookError(ValueError):
    """Latents that make no codebook, or a file that holds none."""


@dataclass(frozen=True, slots=True)
class Codebook:
    entries: Tensor  # Omega, (K, c) float32


def train_codebook(latents: Tensor, *, size: int, seed: int = 0, iterations: int = 20, sample: int = 256) -> Codebook:
    """K-means with `size` entries over all pixels of `latents` (n, c, h, w), by FAISS.

    At most `sample` pixels per entry are used, drawn by `seed`. Equal arguments give equal entries on one machine.
    Raises CodebookError for fewer pixels than entries and for values that are not finite.
    """
    pixels = latents.detach().movedim(1, -1).reshape(-1, latents.shape[1]).float().cpu().numpy()
    if not 1 <= size <= len(pixels):
        raise CodebookError(f"expected from 1 to {len(pixels)} entries for {len(pixels)} pixels, got {size}")
    if not np.isfinite(pixels).all():
        raise CodebookError("expected finite latents, got NaN or infinity")
    kmeans = faiss.Kmeans(
        pixels.shape[1],
        size,
        niter=iterations,
        seed=seed,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        min_points_per_centroid=1,
        max_points_per_centroid=sample,
    )
    kmeans.train(np.ascontiguousarray(pixels))
    entries = kmeans.centroids
    assert entries is not None, "train fills them"
    return Codebook(torch.from_numpy(entries.copy()))


def discretize(latents: Tensor, codebook: Codebook, *, valid: Tensor | None = None) -> Tensor:
    """History `latents` (b, c, t, h, w) with every pixel replaced by its nearest entry.

    Frames of zeros and frames that `valid` (b, t) excludes are padding and stay as they are.
    """
    is_padding = (latents == 0).all(dim=4).all(dim=3).all(dim=1)
    if valid is not None:
        is_padding = is_padding | ~valid
    entries = codebook.entries.to(latents.device)
    pixels = latents.movedim(1, -1)
    nearest = entries[_nearest(pixels.reshape(-1, pixels.shape[-1]).float(), entries)]
    replaced = nearest.to(latents.dtype).view(pixels.shape).movedim(-1, 1)
    return torch.where(is_padding[:, None, :, None, None], latents, replaced)


def discretize_history(history: History, codebook: Codebook) -> History:
    """A history whose valid latents are made of the codebook's entries."""
    latents, valid = torch.from_numpy(history.latents.astype(np.float32)), torch.from_numpy(history.valid)
    entries = discretize(latents.movedim(0, 1)[None], codebook, valid=valid[None])[0].movedim(1, 0)
    return replace(history, latents=entries.half().numpy())


def explained_variance(latents: Tensor, codebook: Codebook) -> float:
    """The share of the variance of `latents` (n, c, h, w) that their codebook entries keep; 1 loses nothing."""
    pixels = latents.movedim(1, -1).reshape(-1, latents.shape[1]).float()
    entries = codebook.entries.to(latents.device)
    lost = (pixels - entries[_nearest(pixels, entries)]).square().sum()
    return 1 - (lost / (pixels - pixels.mean(dim=0)).square().sum()).item()


def save_codebook(codebook: Codebook, path: Path) -> None:
    """Write a safetensors file, to lie beside the checkpoint that was trained with it."""
    entries = codebook.entries.detach().float().cpu().contiguous()
    save_file({"entries": entries}, path, metadata={"format": FORMAT})


def load_codebook(path: Path, *, channels: int) -> Codebook:
    """Read what save_codebook wrote, for latents of `channels`; raises CodebookError for anything else."""
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("format") != FORMAT:
                raise CodebookError(f"expected a file of format {FORMAT}, got {file.metadata()} in {path}")
            entries = file.get_tensor("entries")
    except SafetensorError as error:
        raise CodebookError(f"expected a safetensors file, got {path}: {error}") from error
    if entries.ndim != 2 or entries.shape[1] != channels:
        raise CodebookError(f"expected entries of {channels} channels, got {tuple(entries.shape)} in {path}")
    return Codebook(entries)


def _nearest(pixels: Tensor, entries: Tensor) -> Tensor:
    """Index of the entry nearest to each of `pixels` (n, c): argmin of |entry|^2 - 2 pixel . entry."""
    lengths = entries.square().sum(dim=1)
    chunks = [(lengths - 2 * chunk @ entries.T).argmin(dim=1) for chunk in pixels.split(_CHUNK)]
    return torch.cat(chunks)
