"""Anatomies by name: of what is on the disk, else of what was released, and of less where that is too much."""

from dataclasses import replace
from pathlib import Path

from model.checkpoints.places import Shelf
from model.placement.survey import smaller, survey, usual_work
from tests.model.checkpoints import official
from tests.model.hunyuan import tiny

from . import bodies


def test_files_that_are_there_count_and_else_the_released_shapes(tmp_path: Path) -> None:
    shelf = Shelf((tmp_path,))
    released = survey("wan", shelf, work=bodies.SMALL).parts["transformer"]
    assert released.num_parameters == 1_418_996_800
    folder = official.write_wan(tmp_path)
    own = survey("wan", shelf, work=bodies.SMALL)
    assert 0 < own.parts["transformer"].num_parameters < 100_000
    assert own.parts["vae"].num_bytes > own.parts["vae"].num_parameters * 3  # float32
    (folder / "vae" / "config.json").unlink()
    assert survey("wan", shelf, work=bodies.SMALL).parts["transformer"] == released


def test_a_single_file_stands_for_the_released_size(tmp_path: Path) -> None:
    official.write_framepack(tmp_path, tiny.parts())
    single = tmp_path / "elsewhere" / "fp8.safetensors"
    single.parent.mkdir()
    single.touch()
    anatomy = survey("framepack-f1", Shelf((tmp_path,)), work=bodies.SMALL, transformer=single)
    assert anatomy.parts["transformer"].num_parameters == 12_874_314_816
    assert anatomy.parts["text_encoder"].num_parameters < 100_000


def test_less_is_offered_in_steps() -> None:
    work = usual_work("framepack-f1")
    assert (work.passes, work.steps, work.frame_shape) == (1, 25, (480, 832))
    assert (usual_work("wan").passes, usual_work("helios").steps) == (2, 50)
    little = [*smaller("framepack-f1", bodies.small_modules(), bodies.SMALL)]
    assert little == []

    modules = bodies.small_modules()
    ((what, anatomy),) = smaller("framepack-f1", modules, replace(bodies.SMALL, batch=2))
    assert what == "one session at a time" and anatomy.work == bodies.SMALL
