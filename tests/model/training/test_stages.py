from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from model.evaluation.rollout import Record, rollout
from model.rooms.camera import Camera
from model.rooms.depth import Reach
from model.rooms.dit import QUICK, DiT, DiTConfig
from model.rooms.weights import load_weights
from model.rooms.world import load
from model.training.depth import train_reach
from model.training.record import EpisodeError, Recording, record_episode
from model.training.stages import STAGES, StageError, Workshop, export, open_views, start
from tests.model.training.episodes import data


def test_a_stage_says_what_it_needs(tmp_path: Path) -> None:
    shop = Workshop(tmp_path / "run", tmp_path / "episodes")
    with pytest.raises(StageError, match="rewander record"):
        STAGES["vae"][0](shop, steps=1, seed=0)
    with pytest.raises(StageError, match="rewander train vae-distill"):
        STAGES["dit"][0](shop, steps=1, seed=0)


def test_older_episodes_are_refused(tmp_path: Path) -> None:
    save_file(
        {"frames": np.zeros((2, 8, 8, 3), np.uint8)}, tmp_path / "0.safetensors", {"format": "rewander-episode-1"}
    )
    with pytest.raises(EpisodeError, match="delete it and record it again"):
        STAGES["vae"][0](Workshop(tmp_path / "run", tmp_path), steps=1, seed=0)


def test_worlds_start_where_one_looks_far() -> None:
    recorded = data(frames=200)
    recorded.depths[:] = 2.0
    recorded.depths[1, 40:140, 16:48] = 0.2  # only the middle rows count
    recorded.depths[1, 140:, :16] = 0.2
    starts = open_views(recorded)
    assert starts.shape == (64, 16, 16, 16)
    known = {latents.tobytes() for latents in recorded.latents[1, 40:140]}
    assert {latents.tobytes() for latents in starts.numpy().astype(np.float16)} <= known


def test_stages_begin_from_weights_once(tmp_path: Path) -> None:
    shop, (shipped, _) = Workshop(tmp_path / "run", tmp_path), load_weights()
    start(shop)
    expected = shipped.reach.stop[0].weight
    for stage in ("painter-early", "painter"):  # which goes on from what paints for it
        begun = shop.trained(stage, DiT(DiTConfig(), kernels={}))
        assert torch.equal(begun.embed.weight, shipped.painter.embed.weight)
    assert torch.equal(shop.trained("reach", Reach()).stop[0].weight, expected)
    going_on = train_reach(data(), shop.run("reach", 1), camera=Camera())
    torch.testing.assert_close(going_on.stop[0].weight, expected, atol=0.02, rtol=0)
    assert not torch.equal(going_on.stop[0].weight, expected)
    with pytest.raises(StageError, match=r"expected a new folder .*checkpoint\.pt is there"):
        start(shop)


@pytest.mark.slow
def test_from_recording_to_weights_that_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage for a step or two, then the exported weights through the loader, a rollout and stages again."""
    monkeypatch.setenv("PATH", str(tmp_path))  # no compiler, which takes minutes
    recording = Recording(tmp_path / "episodes", length=50)
    recording.folder.mkdir()
    for seed in range(2):
        record_episode(recording, seed)
    shop = Workshop(tmp_path / "run", recording.folder)
    for stage, _ in STAGES.values():
        stage(shop, steps=2, seed=0)
    export(shop, tmp_path / "weights")
    model = load(tmp_path / "weights")
    encoded = shop.latents()
    one = Record(encoded.latents[0].copy(), encoded.controls[0].copy(), encoded.poses[0].copy())
    _, frames = rollout(model, [one], first=30, frames=2)
    assert frames.shape == (1, 2, 128, 128, 3)
    assert np.ptp(frames) > 0
    taught = Workshop(tmp_path / "taught", recording.folder)
    start(taught, tmp_path / "weights")
    STAGES["polish"][0](taught, steps=1, seed=0)
    export(taught, tmp_path / "other")
    assert load(tmp_path / "other").dit.config == QUICK  # what is polished is the distilled one
    (tmp_path / "weights" / "dit.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no dit\.safetensors"):
        load(tmp_path / "weights")
