"""A smaller autoencoder learns to do what a larger one does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from model.rooms.vae import VAE, VAEConfig
from model.training.loop import Run
from model.training.record import FORMAT
from model.training.vae_distill import VAEDistilling, borrow, distill_vae, distilling_loss, pasted, strengths

LARGE = VAEConfig(latent_channels=4, widths=(8, 8, 16), depths=(1, 2, 3))
SMALL = VAEConfig(latent_channels=4, patch=4, stem=12, widths=(8, 16), depths=(1, 2))


def model(config: VAEConfig, *, seed: int) -> VAE:
    torch.manual_seed(seed)
    made = VAE(config)
    for name, parameter in made.named_parameters():
        if name.endswith("conv2.weight"):  # these begin as zero
            torch.nn.init.normal_(parameter, std=0.1)
    made.mean.normal_()
    made.std.uniform_(0.2, 0.5)
    return made


def waves(count: int, *, seed: int = 0) -> np.ndarray:
    """Smooth pictures (count, 32, 32, 3) uint8."""
    rng = np.random.default_rng(seed)
    at = np.arange(32) / 32 * 2 * np.pi
    phases = rng.uniform(0, 2 * np.pi, (2, count, 1, 1, 3))
    rows, columns = np.sin(at[:, None, None] + phases[0]), np.sin(2 * at[:, None] + phases[1])
    return np.asarray((rows + columns + 2) * 63, np.uint8)


def test_the_student_begins_with_what_fits() -> None:
    teacher, same, student = model(LARGE, seed=0), model(LARGE, seed=1), model(SMALL, seed=2)
    first = student.encoder.layers[1].weight.clone()
    borrow(same, teacher)
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(same.state_dict().values(), teacher.state_dict().values(), strict=True)
    )
    borrow(student, teacher)
    assert torch.equal(student.std, teacher.std)
    assert torch.equal(student.encoder.layers[-1].weight, teacher.encoder.layers[-1].weight)
    assert torch.equal(student.decoder.layers[0].weight, teacher.decoder.layers[0].weight)
    assert torch.equal(student.decoder.layers[2].conv1.weight, teacher.decoder.layers[2].conv1.weight)
    assert torch.equal(student.encoder.layers[1].weight, first)  # of 4x4 pixels, which the teacher does not have


def test_it_comes_nearer_and_leaves_the_teacher_as_it_was(tmp_path: Path) -> None:
    frames = waves(64)
    shape = {"controls": np.zeros((64, 3), np.float32), "poses": np.zeros((64, 3), np.float32)}
    save_file({"frames": frames, **shape}, tmp_path / "0.safetensors", {"format": FORMAT, "env": "rooms", "seed": "0"})
    teacher, student = model(LARGE, seed=0), model(SMALL, seed=1)
    kept = {name: value.clone() for name, value in teacher.state_dict().items()}
    images = torch.from_numpy(waves(16, seed=1)).permute(0, 3, 1, 2).float().div(127.5).sub(1)

    def losses(of: VAE) -> dict[str, float]:
        with torch.no_grad():
            found = distilling_loss(of, teacher, images, 0.3, torch.Generator().manual_seed(0))
        return {name: value.item() for name, value in found.items()}

    borrow(student, teacher)  # what it gains without any training
    before = losses(student)
    run = Run(tmp_path / "run", 60, warmup=5, ema=0.9)
    after = losses(distill_vae([tmp_path / "0.safetensors"], student, teacher, run, VAEDistilling(rate=3e-3), seed=0))
    assert after["latents"] > before["latents"] + 3
    assert after["pictures"] > before["pictures"] + 3
    assert all(torch.equal(value, kept[name]) for name, value in teacher.state_dict().items())
    assert (tmp_path / "run" / "sample_0000060.png").exists()


@pytest.mark.parametrize("seed", range(3))
def test_every_other_picture_is_resampled_beside_a_piece_of_another(seed: int) -> None:
    images, others = torch.full((6, 3, 32, 32), 0.25), torch.full((6, 3, 32, 32), -0.5)
    made = pasted(torch.cat([images, others]), torch.Generator().manual_seed(seed))
    assert torch.equal(made[::2], images[::2])
    odd = made[1::2]
    assert (((odd - 0.25).abs() < 1e-5) | (odd == -0.5)).all()
    assert (odd == -0.5).any()
    assert (odd > 0).any()


def test_what_is_softer_has_less_strength_in_its_fine_octaves() -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    soft = torch.nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    share = strengths(soft) / strengths(images)
    assert share.shape == (2, 3)
    assert (share[:, 0] < 0.5).all()
    assert (share[:, 0] < share[:, 1]).all()
    torch.testing.assert_close(strengths(0.5 * images)[:, 0], 0.5 * strengths(images)[:, 0], rtol=1e-2, atol=0)
