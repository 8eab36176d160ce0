"""Frames a second where frames differ: what is slow now and then counts by its share."""

from itertools import count

import pytest

from server.bench import STRETCH, WARM_UP, bench_generation
from tests.server.tiny_model import TinyModel


class Clock:
    """Every tenth section takes a hundred ticks, all others none; what else reads the clock is free."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, count()

    def __call__(self) -> float:
        section, call = divmod(next(self.calls), 10)  # start and end of the frame and of its four stages
        if call == 9 and section % 10 == 5:
            self.now += 100
        return self.now


def test_slow_frames_count_by_their_share() -> None:
    model = TinyModel()
    figures = bench_generation(model, sessions=1, frames=10 * STRETCH, clock=Clock())
    frames = model.spec.section_latents * model.spec.frames_per_latent
    assert WARM_UP % 10 == 0
    assert figures["generate.n1.fps"] == pytest.approx(frames / 10)
    assert figures["generate.n1.frame_p95_ms"] == pytest.approx(100_000)
    assert figures["generate.n1.sample_ms"] == 0
    assert figures["generate.n1.time_ratio"] == pytest.approx(1)
