"""The painter's training: what is behind the masks, what is painted again, and what its loss reaches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.rooms.dit import DiT, Target
from model.rooms.scouting import known, news
from model.training.loop import Run
from model.training.paint import (
    Learning,
    Masked,
    Painting,
    Pool,
    behind_masks,
    new_previews,
    noised,
    painting_loss,
    train_painter,
)
from model.training.sequences import Drawing
from model.training.teachers import TEACHING, Teachers
from model.training.wear import Wear
from tests.model.rooms.small import networks
from tests.model.training.episodes import data

PAINTING = Painting(Drawing(batch=2, targets=4, recall_dropout=1.0, strides=(4,)), frames=6)


def teachers() -> Teachers:
    made = networks()
    return Teachers(made.vae.to(TEACHING), made.depth.to(TEACHING))


def pool(painting: Painting = PAINTING, wearing: DiT | None = None) -> list[Masked]:
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    return new_previews(
        data(frames=120), teachers(), painting, Learning(networks().painter, wearing), rng=rng, generator=generator
    )


def right_half(num: int = 4) -> Masked:
    shares = torch.zeros(num, 2, 16, 16)
    shares[..., 8:] = 1.0
    clean = torch.randn(num, 16, 16, 16)
    return Masked(clean * known(shares), shares, clean)


def test_previews_show_some_and_not_all() -> None:
    found = pool()
    assert found
    for one in found:
        assert 0.04 < float(news(one.shares[None])) < 0.9
        assert not one.base[:, known(one.shares[None])[0, 0] == 0].any()
        assert one.base.any()
    assert not pool(Painting(PAINTING.drawing, unknown=(0.999, 1.0)))


def test_half_of_a_batch_are_recorded_frames_behind_the_same_masks() -> None:
    recorded, met = data(), [right_half(1)]
    painting = Painting(frames=6, nothing=0.0)
    batch = behind_masks(recorded, [Masked(*(part[0] for part in met[0]))], painting, rng=np.random.default_rng(0))
    assert batch.clean.shape == (6, 16, 16, 16)
    assert torch.equal(batch.clean[:3], met[0].clean.expand(3, -1, -1, -1))
    frames = {latent.tobytes() for latent in recorded.latents.reshape(-1, 16, 16, 16)}
    assert {latent.tobytes() for latent in batch.clean[3:].half().numpy()} <= frames
    assert torch.equal(batch.base[3:, :, :, 8:], batch.clean[3:, :, :, 8:])
    assert not batch.base[3:, :, :, :8].any()


def test_of_some_frames_nothing_is_known() -> None:
    met, painting = Masked(*(part[0] for part in right_half(1))), Painting(frames=10, nothing=0.2)
    batch = behind_masks(data(), [met], painting, rng=np.random.default_rng(0))
    assert [bool(shares.any()) for shares in batch.shares] == [True] * 5 + [False] * 2 + [True] * 3
    assert not batch.base[5:7].any()
    assert batch.clean[5:7].any()


def test_what_is_known_is_painted_again_and_what_is_learned_stays() -> None:
    always = replace(PAINTING, wear=Wear(sequences=1.0))
    plain, again = pool(), pool(always, networks().painter)
    assert len(again) > 0
    recorded = {latent.tobytes() for latent in data(frames=120).latents.reshape(-1, 16, 16, 16)}
    assert {one.clean.half().numpy().tobytes() for one in again} <= recorded
    assert not any(torch.equal(one.base, other.base) for one in again for other in plain)


def test_some_recorded_frames_are_painted_again() -> None:
    painting = replace(PAINTING, frames=8, nothing=0.0, wear=Wear(sequences=0.0, frames=0.5, blur=0.0, noise=0.0))
    shown = Pool(data(frames=120), teachers(), painting, Learning(*(networks().painter for _ in range(2)))).draw(
        1, rng=np.random.default_rng(0), generator=torch.Generator().manual_seed(0)
    )
    behind = shown.clean * known(shown.shares)
    assert torch.equal(shown.base[4:6], behind[4:6])
    assert not torch.isclose(shown.base[6:], behind[6:]).flatten(1).all(1).any()
    assert not shown.base[6:][known(shown.shares[6:]).expand_as(behind[6:]) == 0].any()


def test_the_loss_counts_what_is_unknown() -> None:
    shown = right_half(8)

    def off_by_one(columns: slice) -> Tensor:
        def predict(_target: Target) -> Tensor:
            made = shown.clean.clone()
            made[..., columns] += 1
            return made

        return painting_loss(predict, shown, PAINTING, torch.Generator().manual_seed(0))["first"]

    assert off_by_one(slice(0)) == 0
    assert float(off_by_one(slice(8))) == pytest.approx(1.1 / 1.2, rel=1e-3)
    assert float(off_by_one(slice(8, 16))) == pytest.approx(0.1 / 1.2, rel=1e-3)


def test_the_loss_reaches_every_parameter_of_the_painter() -> None:
    painter = networks().painter
    painting_loss(painter, right_half(), PAINTING, torch.Generator().manual_seed(0))["loss"].backward()
    silent = [name for name, parameter in painter.named_parameters() if parameter.grad is None]
    assert silent == []


def test_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    run, recorded = Run(tmp_path, steps=2), data(frames=120)
    first = train_painter(recorded, Learning(networks().painter), teachers(), run, PAINTING)
    again = train_painter(recorded, Learning(networks(seed=1).painter), teachers(), run, PAINTING)
    for one, two in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first.embed.weight, networks().painter.embed.weight)


def test_walks_without_news_are_refused(tmp_path: Path) -> None:
    painting = Painting(PAINTING.drawing, unknown=(0.999, 1.0))
    with pytest.raises(ValueError, match="expected walks that show something new"):
        train_painter(data(), Learning(networks().painter), teachers(), Run(tmp_path, steps=1), painting)


def test_a_shift_leads_levels_towards_noise_and_pure_stays_pure() -> None:
    clean = torch.zeros(400, 1, 2, 2)

    def levels(shift: float) -> Tensor:
        painting = Painting(pure=0.25, shift=shift)
        return noised(clean, painting, torch.Generator().manual_seed(0))[1]

    plain, shifted = levels(1.0), levels(2.0)
    assert torch.equal(plain == 1, shifted == 1)
    assert 60 < int((plain == 1).sum()) < 140
    torch.testing.assert_close(shifted, 2 * plain / (1 + plain))
    assert 0.03 < float(plain.amin()) < float(shifted.amin())
