from pathlib import Path

import numpy as np
import pytest

from model.evaluation.rollout import Record, rollout
from model.rooms.world import load
from model.training.record import Recording, record_episode
from model.training.stages import STAGES, StageError, Workshop, export


def test_a_stage_says_what_it_needs(tmp_path: Path) -> None:
    shop = Workshop(tmp_path / "run", tmp_path / "episodes")
    with pytest.raises(StageError, match="rewander record"):
        STAGES["vae"][0](shop, steps=1, seed=0)
    with pytest.raises(StageError, match="rewander train vae"):
        STAGES["dit"][0](shop, steps=1, seed=0)


@pytest.mark.slow
def test_from_recording_to_weights_that_play(tmp_path: Path) -> None:
    """Every stage for a step or two, then the exported weights through the loader and a rollout."""
    recording = Recording(tmp_path / "episodes", length=50)
    recording.folder.mkdir()
    for seed in range(2):
        record_episode(recording, seed)
    shop = Workshop(tmp_path / "run", recording.folder)
    for stage, _ in STAGES.values():
        stage(shop, steps=2, seed=0)
    export(shop, tmp_path / "weights")
    model = load(tmp_path / "weights")
    data = shop.latents()
    one = Record(data.latents[0].copy(), data.controls[0].copy(), data.poses[0].copy())
    _, frames = rollout(model, [one], first=30, frames=2)
    assert frames.shape == (1, 2, 128, 128, 3)
    assert np.ptp(frames) > 0
    (tmp_path / "weights" / "dit.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no dit\.safetensors"):
        load(tmp_path / "weights")
