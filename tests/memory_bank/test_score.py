"""FramePack's similarities against the paper's formulas, pixel by pixel."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_bank.score import eq3_key, hybrid_similarity, pixel_cosine, time_reach, time_similarity
from tests.memory_bank.worlds import random_latents


def reference_eq3(frame: np.ndarray, estimate: np.ndarray) -> float:
    """Eq. 3 as the paper writes it, pixel by pixel, over the number of pixels."""
    _, h, w = frame.shape
    total = 0.0
    for y in range(h):
        for x in range(w):
            a, b = frame[:, y, x].astype(float), estimate[:, y, x].astype(float)
            total += float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
    return total / (h * w)


shapes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))


@given(shape=shapes, num=st.integers(1, 6), seed=st.integers(0, 999))
def test_pixel_cosine_is_eq_3(shape, num, seed):
    latents, estimate = random_latents(num, seed=seed, shape=shape), random_latents(1, seed=seed + 1, shape=shape)[0]
    expected = [reference_eq3(latent, estimate) for latent in latents]
    np.testing.assert_allclose(pixel_cosine(latents, estimate), expected, atol=1e-5)


@given(shape=shapes, seed=st.integers(0, 999))
def test_the_inner_product_of_eq_3_keys_is_eq_3(shape, seed):
    a, b = random_latents(2, seed=seed, shape=shape)
    assert float(eq3_key(a) @ eq3_key(b)) == pytest.approx(reference_eq3(a, b), abs=1e-5)
    assert float(np.linalg.norm(eq3_key(a))) == pytest.approx(1.0, abs=1e-5)


def test_a_score_does_not_depend_on_the_rows_beside_it():
    latents, estimate = random_latents(37, seed=3), random_latents(1, seed=4)[0]
    together = pixel_cosine(latents, estimate)
    alone = [pixel_cosine(latents[i : i + 1], estimate)[0] for i in range(37)]
    assert together.tolist() == alone


def test_a_pixel_of_zeros_counts_as_unlike():
    estimate = np.ones((2, 1, 2), np.float16)
    latents = np.stack([estimate, estimate])
    latents[1, :, 0, 0] = 0
    np.testing.assert_allclose(pixel_cosine(latents, estimate), [1.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(pixel_cosine(latents, np.zeros_like(estimate)), [0.0, 0.0])


@pytest.mark.parametrize(("seconds", "weight"), [(0.0, 1.0), (0.5, 0.7788), (1.0, 0.3679), (2.0, 0.0183)])
def test_time_similarity_is_eq_4(seconds, weight):
    np.testing.assert_allclose(time_similarity(np.asarray([10 - seconds, 10 + seconds]), 10.0), weight, atol=1e-4)


def test_hybrid_similarity_is_eq_5():
    hybrid = hybrid_similarity(np.asarray([0.2, 0.9], np.float32), np.asarray([1.0, 0.1]), lambda_time=0.5)
    np.testing.assert_allclose(hybrid, [0.7, 0.95], atol=1e-6)


@given(lambda_time=st.floats(1e-6, 100))
def test_beyond_the_reach_the_time_term_is_below_the_tolerance(lambda_time):
    beyond, within = time_reach(lambda_time) * 1.001, time_reach(lambda_time) * 0.999
    assert lambda_time * time_similarity(np.asarray([beyond]), 0.0)[0] < 1e-7
    assert lambda_time * time_similarity(np.asarray([within]), 0.0)[0] > 1e-7


def test_no_time_term_has_no_reach():
    assert time_reach(0.0) == time_reach(1e-9) == 0.0
