"""`rewander models`, on folders with all, some or none of the models."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from model.checkpoints.catalog import MODELS, UnknownCheckpointError, components
from model.checkpoints.places import Shelf
from model.framepack.camera import load_camera
from model.placement.cards import GB, Card
from server.cli import app
from server.model_commands import show_models, show_plan
from tests.model.checkpoints import official
from tests.model.hunyuan import tiny


def console() -> Console:
    return Console(file=StringIO(), width=200)


def printed(out: Console) -> str:
    assert isinstance(out.file, StringIO)
    return out.file.getvalue()


def rows(text: str, *words: str) -> list[str]:
    return [line for line in text.splitlines() if all(word in line for word in words)]


def test_what_is_missing_is_listed_with_the_commands_that_fetch_it(tmp_path: Path) -> None:
    out = console()
    show_models(Shelf((tmp_path,)), console=out)
    text = printed(out)
    for model in MODELS:
        count = len(components(model))
        assert rows(text, f" {model} ", f"{count} of {count} missing")
        assert len(rows(text, f" {model} ", "missing")) == count + 1
    assert "hf download lllyasviel/FramePack_F1_I2V_HY_20250503\n" in text
    assert "hf download hunyuanvideo-community/HunyuanVideo --include 'text_encoder_2/*'\n" in text
    assert text.count("hf download hunyuanvideo-community/HunyuanVideo --include 'vae/*'") == 1  # two models need it


def test_what_is_there_is_listed_with_its_size_and_place(tmp_path: Path) -> None:
    folder = official.write_framepack(tmp_path, tiny.parts(), layout=official.cached)
    out = console()
    show_models(Shelf((tmp_path,)), console=out)
    text = printed(out)
    assert rows(text, "framepack-f1", "transformer", "0.0", str(folder)[:20])
    assert not rows(text, "framepack-f1", "missing")
    assert rows(text, "framepack-f1", "CUDA") or rows(text, "framepack-f1", "fits")
    assert len(rows(text, "framepack-i2v", "missing")) == 2  # only its transformer, and so itself
    assert "F1_I2V" not in "".join(rows(text, "hf download"))


def test_a_plan_is_computed_from_the_files_that_are_there(tmp_path: Path) -> None:
    parts = tiny.parts()
    official.write_framepack(tmp_path, parts)
    out = console()
    show_plan("framepack-f1", Shelf((tmp_path,)), console=out, frame_shape=(48, 80), steps=7)
    text = printed(out)
    parameters = sum(p.numel() for p in parts.transformer.parameters())
    assert rows(text, "transformer", f"{parameters:,}")
    assert "80x48 pixels" in text and "7 steps" in text and "TFLOP for a step" in text
    for size in (24, 16, 12, 8, 6):
        for weights in ("as kept", "fp8", "int8", "nf4"):
            assert rows(text, f" {size} GB ", weights, "nothing")


@pytest.mark.parametrize("arguments", [["--model=nonesuch", "--plan"], ["--model=wan", "--plan", "--size=9"]])
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["models", *arguments])
    assert result.exit_code == 2 and "expected" in result.output


def test_an_unknown_model_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownCheckpointError, match="expected one of framepack-f1, .* got 'nonesuch'"):
        show_plan("nonesuch", Shelf((tmp_path,)), console=console(), frame_shape=(48, 80), steps=None)


def test_the_command_looks_in_the_folder_that_is_named(tmp_path: Path) -> None:
    official.write_framepack(tmp_path, tiny.parts())
    result = CliRunner().invoke(app, ["models", "--weights", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "8 of 8 missing" not in "".join(rows(result.output, "framepack-f1"))


def test_settings_and_phrases_are_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["models", "--show=settings"])
    assert result.exit_code == 0, result.output
    for name in ("lora", "camera", "quantize"):
        assert rows(result.output, f" {name} ")
    phrases = tmp_path / "phrases.json"
    phrases.write_text(CliRunner().invoke(app, ["models", "--show=phrases"]).output)
    assert load_camera(phrases) == load_camera()


def test_it_says_whether_a_model_fits_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    folder, card = official.write_framepack(tmp_path, tiny.parts()), Card("a card", 8 * GB, 1e12, 1e9)
    for said in ("fits resident: ", "transformer of lllyasviel"):
        out = console()
        show_models(Shelf((tmp_path,)), console=out, card=card)
        assert rows(printed(out), "framepack-f1", said)
        (folder / "config.json").write_text("{")
