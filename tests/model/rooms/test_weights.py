from pathlib import Path

import numpy as np
import pytest
import torch

from model.evaluation.rollout import Record, history_at, no_recall, rollout, sample
from model.rooms.depth import Depth
from model.rooms.weights import SHIPPED, load_weights, save_weights
from model.rooms.world import Rooms, load
from model.training.record import Episode
from model.training.rooms_env import RoomsEnv
from model.world_model import Section
from tests.model.rooms.small import networks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = networks()._replace(depth=Depth())
    save_weights(tmp_path, made, torch.randn(2, 16, 16, 16))
    return tmp_path


def test_weights_survive_the_way_through_files(folder: Path) -> None:
    read, starts = load_weights(folder)
    assert starts.shape == (2, 16, 16, 16)
    assert read.dit.config == networks().dit.config
    for one, two in zip(read.dit.parameters(), networks().dit.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-2, rtol=1e-2)
    assert any(parameter.any() for parameter in read.vae.parameters())


def test_files_that_do_not_fit_are_refused(folder: Path) -> None:
    (folder / "reach.safetensors").write_bytes((folder / "vae.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"reach\.safetensors does not fit config\.json"):
        load_weights(folder)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no config\.json"):
        load_weights(tmp_path)


@pytest.mark.weights
def test_the_shipped_files_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in SHIPPED.glob("*.safetensors")}
    assert {"vae", "depth", "reach", "dit", "painter", "starts"} == {name.split(".")[0] for name in sizes}
    assert sum(sizes.values()) < 40e6


@pytest.fixture(scope="module")
def model() -> Rooms:
    return load()


@pytest.fixture(scope="module")
def episode() -> Episode:
    """A walk in a circle through a plan that no training has seen."""
    env = RoomsEnv()
    obs, info = env.reset(seed=10_000_107)
    frames, poses, control = [obs], [info["pose"]], np.array([0.5, 0.0, 0.6], np.float32)
    for _ in range(59):
        obs, _, _, _, info = env.step(control)
        frames.append(obs)
        poses.append(info["pose"])
    controls = np.concatenate([np.zeros((1, 3), np.float32), np.tile(control, (59, 1))])
    return Episode(np.stack(frames), controls, np.array(poses, np.float32))


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    return float(-10 * np.log10(np.square((one.astype(np.float32) - two) / 255).mean() + 1e-10))


@pytest.mark.weights
def test_the_next_frame_of_a_plan_never_seen(model: Rooms, episode: Episode) -> None:
    """A floor under the shipped weights, well below what `rewander eval` measures."""
    latents = model.encode(episode.frames)
    record = Record(latents, episode.controls, episode.poses)
    predicted, copied = [], []
    for now in range(25, 60, 5):
        state = model.open(seed=0)
        model.resume(state, latents[:now], episode.poses[:now], num_sections=now - 1)
        sections = sample(model, [state], [record.controls[now : now + 1]], [history_at(model.spec, record, now, ())])
        truth = _decode(model, latents[now])
        if psnr(_decode(model, latents[now - 1]), truth) < 30:  # the view moves
            predicted.append(psnr(model.decode([state], sections)[0][0], truth))
            copied.append(psnr(_decode(model, latents[now - 1]), truth))
    assert len(predicted) >= 3
    assert np.mean(predicted) > 33
    assert np.mean(predicted) > np.mean(copied) + 8


@pytest.mark.weights
def test_standing_still_keeps_the_picture(model: Rooms) -> None:
    state = model.open(seed=3)
    start = state.start
    record = Record(np.repeat(start.latents, 20, 0), np.zeros((20, 3), np.float32), np.zeros((20, 3), np.float32))
    _, frames = rollout(model, [record], first=1, frames=8, recall=no_recall)
    assert psnr(frames[0, -1], _decode(model, start.latents[0])) > 60


def _decode(model: Rooms, latent: np.ndarray) -> np.ndarray:
    return model.decode([None], [Section(latent[None], np.zeros((1, 3), np.float32))])[0][0]
