"""How what is known is worn: painted again from part of the way, blurred and noisy."""

import numpy as np
import torch

from model.rooms.scouting import SHIFT, STEPS, known
from model.sampling import flow_sigmas
from model.training.context import previews, shipped
from model.training.sequences import RECENT, Batch, Drawing, draw
from model.training.wear import Wear, repainted, steps_back, with_repainted, worn
from tests.model.rooms.small import networks
from tests.model.training.episodes import data
from tests.model.training.test_paint import right_half, teachers


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class Truthful(torch.nn.Module):
    """A painter that always sees the same picture, and counts what it is asked."""

    def __init__(self, picture: torch.Tensor) -> None:
        super().__init__()
        self.picture, self.asked = picture, list[tuple[float, int]]()

    def forward(self, target):
        self.asked.append((float(target.sigma[0]), len(target.noisy)))
        assert not target.base.any()
        assert not target.shares.any()
        return self.picture.expand_as(target.noisy)


def test_frames_are_painted_again_from_the_step_that_they_are_taken_back_to():
    picture, frames = torch.full((16, 16, 16), 3.0), torch.randn(5, 16, 16, 16)
    painter = Truthful(picture)
    made = repainted(painter, frames, torch.tensor([1, 2, 3, 3, 2]), generator())
    torch.testing.assert_close(made, picture.expand_as(made))  # the last step shows what the painter sees
    sigmas = flow_sigmas(STEPS, shift=SHIFT)
    assert [num for _, num in painter.asked] == [1, 3, 5]
    np.testing.assert_allclose([sigma for sigma, _ in painter.asked], sigmas[1:STEPS], rtol=1e-6)


def test_less_is_kept_the_farther_back():
    """A painter that takes what it sees for the picture, as far as it can tell, leaves more noise then."""

    class Trusting(torch.nn.Module):
        def forward(self, target):
            return target.noisy / (1 + target.sigma[:, None, None, None])

    frames = torch.randn(30, 16, 16, 16)
    made = repainted(Trusting(), frames, torch.arange(1, 4).repeat_interleave(10), generator())
    off = (made - frames).square().flatten(1).mean(1).view(3, 10).mean(1)
    assert off[0] > off[1] > off[2] > 0


def test_steps_are_drawn_by_their_chances():
    rng = np.random.default_rng(0)
    assert set(steps_back(Wear(back=(0.0, 0.0, 1.0)), 20, rng).tolist()) == {3}
    many = steps_back(Wear(), 2000, rng)
    assert [round(float((many == step).float().mean()), 1) for step in (2, 3)] == [0.4, 0.5]
    assert int(many.min()) == 1


def test_sequences_are_painted_again_whole_and_their_depth_is_read_anew():
    rng = np.random.default_rng(0)
    batch = draw(data(frames=120), Drawing(batch=6, targets=4, strides=(4,)), rng)

    def again(share: float) -> Batch:
        wear = Wear(sequences=share)
        return with_repainted(networks().painter, teachers(), batch, wear, rng=rng, generator=generator())

    made = again(0.5)
    for name in ("clip", "memory", "depths", "memory_depths"):
        before, after = getattr(batch, name), getattr(made, name)
        same = [torch.equal(one, other) for one, other in zip(before, after, strict=True)]
        assert 0 < sum(same) < 6
    assert torch.equal(made.poses, batch.poses)
    assert (
        with_repainted(networks().painter, teachers(), batch, Wear(sequences=0.0), rng=rng, generator=generator())
        is batch
    )
    shown = previews(teachers(), made, shipped(16), edge=0.77)
    assert shown.base.shape[0] == 6 * (batch.clip.shape[1] - RECENT)


def test_wear_touches_what_is_known_in_some_frames():
    shown = right_half(64)
    base = worn(shown.base, shown.shares, Wear(), generator())
    assert not base[..., :8].any()
    changed = (base != shown.base).flatten(1).any(1).float().mean()
    assert 0.4 < changed < 0.95
    softer = worn(shown.base, shown.shares, Wear(noise=0.0), generator())
    assert softer[..., 9:].square().mean() < 0.95 * shown.base[..., 9:].square().mean()
    assert (known(shown.shares) == 1).any()
