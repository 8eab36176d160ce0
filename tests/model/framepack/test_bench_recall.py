"""The measurement of re-used history slots, cut short: what it must find on true frames of a turning camera."""

import numpy as np
import pytest

from tests.model.hunyuan import tiny

from .bench_recall import Figures, measure


@pytest.fixture(scope="module")
def measured() -> list[tuple[Figures, np.ndarray]]:
    """Off, and with two memories, once around and a little."""
    parts = tiny.parts()
    return [measure(parts, num_recalled=count, sections=24, turns_back=False) for count in (0, 2)]


def test_memories_cost_no_tokens_and_show_what_comes(measured: list[tuple[Figures, np.ndarray]]) -> None:
    (off, without), (on, made) = measured
    assert on.tokens == off.tokens
    assert off.recall_us == 0 < on.recall_us
    assert on.shown_db > off.shown_db + 1
    assert made.shape == without.shape and not np.array_equal(made, without)
