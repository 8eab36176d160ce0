"""`rewander train lora` from the shell, on a checkpoint in miniature."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from model.drift.discretize import CODEBOOK
from model.evaluation.rows import variants
from model.lora.files import LORA
from model.training.record import FORMAT
from server.cli import app
from tests.model.checkpoints import official
from tests.model.training.episodes import data
from tests.model.wan import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    official.write_wan(tmp_path / "weights")
    (tmp_path / "episodes").mkdir()
    frames = np.stack([tiny.image((32, 32), seed=i) for i in range(17)])
    arrays = {"frames": frames, "controls": np.zeros((17, 3), np.float32), "poses": np.zeros((17, 3), np.float32)}
    save_file(arrays, tmp_path / "episodes" / "0.safetensors", {"format": FORMAT})
    return tmp_path


def train(folder: Path, *more: str) -> tuple[int, str]:
    options = ["--episodes", f"{folder}/episodes", "--weights", f"{folder}/weights", "--size", "32x48"]
    options += ["--schedule", "f1k1f4k4f2k2f1k1_g2", "--steps", "2", "--rank", "3", "--threads", "1", "--device", "cpu"]
    command = ["train", "lora", f"{folder}/out", *options, *more]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "400"}, catch_exceptions=False)
    return result.exit_code, result.output


def test_wan_is_fine_tuned(folder: Path) -> None:
    code, output = train(folder, "--model", "wan", "--prompt", "a garden")
    assert code == 0, output
    assert "training wan\npeak " in output
    assert f"The adapters are in {folder}/out/lora" in output
    weights = load_file(folder / "out" / "lora" / "lora.safetensors")
    film = load_file(folder / "out" / "films" / "0.safetensors")
    assert film["start"].shape == (48, 32, 3)
    assert weights["transformer.blocks.0.attn1.to_q.lora_A.weight"].shape == (3, 32)


def test_what_is_wrong_is_said(folder: Path) -> None:
    code, output = train(folder, "--model", "clouds")
    assert code == 2 and "one of wan, wan-14b, framepack-f1, rooms, got 'clouds'" in output
    code, output = train(folder, "--phrases", f"{folder}/none.json")
    assert code == 2 and "none.json" in output
    code, output = train(folder, "--size", "large")
    assert code == 2 and "large" in output
    code, output = train(folder, "--rate", "-1")
    assert code == 2 and "a rate above 0" in output
    code, output = train(folder, "--model", "wan-14b")
    assert code == 2 and "hf download Wan-AI/Wan2.1-T2V-14B-Diffusers" in output


@pytest.mark.slow
def test_all_fine_tunings_of_the_tables_are_trained(tmp_path: Path) -> None:
    latents = tmp_path / "latents"
    latents.mkdir()
    made = data()
    for name, part in made._asdict().items():
        np.save(latents / f"{name}.npy", part)
    (latents / "done").write_text(str(len(made.poses)))
    command = [
        "train",
        "variants",
        f"{tmp_path}/adapters",
        "--episodes",
        f"{latents}",
        "--steps",
        "1",
        "--threads",
        "1",
    ]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for name, variant in variants().items():
        folder = tmp_path / "adapters" / name / "lora"
        assert (folder / LORA).exists()
        assert (folder / CODEBOOK).exists() == (variant.entries > 0)
