from pathlib import Path

import numpy as np
import pytest
import torch

from model.rooms.vae import VAE, VAEConfig
from model.training.latents import encode_episodes, load_latents
from model.training.record import EpisodeError, load_episode
from model.training.vae import to_unit
from tests.model.training.episodes import write


@pytest.fixture
def vae() -> VAE:
    torch.manual_seed(0)
    return VAE(VAEConfig(widths=(8, 8, 16), depths=(1, 1, 1)))


def test_episodes_become_arrays(tmp_path: Path, vae: VAE) -> None:
    paths = [write(tmp_path / f"{seed}.safetensors", seed) for seed in range(2)]
    assert list(encode_episodes(vae, paths, tmp_path / "latents")) == [1, 2]
    data = load_latents(tmp_path / "latents")
    assert data.latents.shape == (2, 5, 16, 2, 2)
    assert data.latents.dtype == data.depths.dtype == np.float16
    for i, episode in enumerate(map(load_episode, paths)):
        assert np.array_equal(data.depths[i], episode.depths)
        assert np.array_equal(data.controls[i], episode.controls)
        assert np.array_equal(data.poses[i], episode.poses)
        with torch.no_grad():
            expected = vae.float().encode(to_unit(episode.frames)).numpy()
        np.testing.assert_allclose(data.latents[i], expected, atol=0.05)


def test_what_a_killed_run_has_done_is_kept(tmp_path: Path, vae: VAE) -> None:
    paths, folder = [write(tmp_path / f"{seed}.safetensors", seed) for seed in range(3)], tmp_path / "latents"
    assert next(encode_episodes(vae, paths, folder)) == 1  # killed here
    assert len(load_latents(folder).poses) == 1
    assert list(encode_episodes(vae, paths, folder)) == [2, 3]
    assert list(encode_episodes(vae, paths, folder)) == []
    assert np.array_equal(load_latents(folder).poses[2], load_episode(paths[2]).poses)


def test_more_episodes_are_encoded_anew(tmp_path: Path, vae: VAE) -> None:
    paths, folder = [write(tmp_path / f"{seed}.safetensors", seed) for seed in range(3)], tmp_path / "latents"
    assert list(encode_episodes(vae, paths[:2], folder)) == [1, 2]
    assert list(encode_episodes(vae, paths, folder)) == [1, 2, 3]
    assert load_latents(folder).latents.any((1, 2, 3, 4)).all()


def test_episodes_that_do_not_fit_are_refused(tmp_path: Path, vae: VAE) -> None:
    good = write(tmp_path / "good.safetensors", 0)
    flat = write(tmp_path / "flat.safetensors", 1, has_depth=False)
    with pytest.raises(EpisodeError, match="flat.safetensors: expected an episode with depths"):
        list(encode_episodes(vae, [good, flat], tmp_path / "a"))
    short = write(tmp_path / "short.safetensors", 2, length=3)
    with pytest.raises(EpisodeError, match=r"expected latents of shape \(5, 16, 2, 2\), got \(3, 16, 2, 2\)"):
        list(encode_episodes(vae, [good, short], tmp_path / "b"))
    other = write(tmp_path / "other.safetensors", 3, num_controls=2)
    with pytest.raises(EpisodeError, match=r"expected controls of shape \(5, 3\), got \(5, 2\)"):
        list(encode_episodes(vae, [good, other], tmp_path / "c"))
