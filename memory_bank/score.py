"""FramePack's similarities of history to an estimated frame X-hat: Eq. 3 to 5 of arXiv 2504.12626 v3."""

import math

import numpy as np

# n entries · C, h, w of a latent · P = h * w pixels


def pixel_cosine(latents: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """Eq. 3 divided by the number of pixels: mean over latent pixels of their cosine, in [-1, 1].

    The paper sums; the mean keeps lambda_time independent of the latent's size.
    `latents` (n, C, h, w), `estimate` (C, h, w) -> (n,) float32. A pixel of zeros counts as 0.
    """
    n, c, h, w = latents.shape
    frames = latents.reshape(n, c, h * w).astype(np.float32)
    target = _unit_pixels(estimate)
    # Row-wise sums instead of a GEMM: a row's score must not depend on its neighbours, or equal entries would not tie.
    dots = (frames * target).sum(axis=1)
    norms = np.sqrt(np.square(frames).sum(axis=1))
    cosines = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return np.asarray(cosines.mean(axis=1), np.float32)


def eq3_key(latent: np.ndarray) -> np.ndarray:
    """The unit key in whose space an inner product is Eq. 3 (the mean form): (C, h, w) -> (C * h * w,) float32."""
    _, h, w = latent.shape
    return (_unit_pixels(latent) / math.sqrt(h * w)).reshape(-1).astype(np.float32)


def time_similarity(seconds: np.ndarray, now: float) -> np.ndarray:
    """Eq. 4: exp(-(time(F_i) - time(X-hat))^2), times in seconds."""
    return np.exp(-np.square(np.asarray(seconds, np.float64) - now))


def hybrid_similarity(cosine: np.ndarray, time: np.ndarray, *, lambda_time: float) -> np.ndarray:
    """Eq. 5: sim_cos + lambda_time sim_time."""
    return cosine.astype(np.float64) + lambda_time * time


def time_reach(lambda_time: float, *, tolerance: float = 1e-7) -> float:
    """Seconds beyond which the time term of Eq. 5 is below `tolerance`: float32 scores cannot see it there."""
    return math.sqrt(max(math.log(lambda_time / tolerance), 0.0)) if lambda_time > 0 else 0.0


def _unit_pixels(latent: np.ndarray) -> np.ndarray:
    c, h, w = latent.shape
    pixels = latent.reshape(c, h * w).astype(np.float32)
    norms = np.sqrt(np.square(pixels).sum(axis=0))
    return np.asarray(np.divide(pixels, norms, out=np.zeros_like(pixels), where=norms > 0))
