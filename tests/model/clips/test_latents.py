"""The file of latents: what was appended is read again, whatever tears its end."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.clips.latents import DamagedLatentsError, LatentFile
from model.world_model import Section

SHAPE = (2, 3, 4, 5)


def section(seed: int) -> Section:
    numbers = np.random.default_rng(seed)
    return Section(
        numbers.standard_normal(SHAPE).astype(np.float16), numbers.standard_normal((2, 3)).astype(np.float32)
    )


def assert_holds(file: LatentFile, num: int) -> None:
    assert len(file) == num
    for i, found in enumerate(file):
        np.testing.assert_array_equal(found.latents, section(i).latents)
        np.testing.assert_array_equal(found.poses, section(i).poses)


def filled(path: Path, num: int = 4) -> Path:
    with LatentFile(path, shape=SHAPE) as file:
        for i in range(num):
            file.append(section(i))
        assert_holds(file, num)
    return path


def test_sections_are_read_again_in_any_order(tmp_path: Path) -> None:
    with LatentFile(filled(tmp_path / "latents"), shape=SHAPE) as file:
        for i in (3, 0, 2):
            np.testing.assert_array_equal(file.read(i).latents, section(i).latents)
        file.append(section(4))
        assert_holds(file, 5)


@given(left=st.integers(0, 4 * 268), zeros=st.integers(0, 600))
def test_a_torn_end_costs_the_torn_sections_alone(
    tmp_path_factory: pytest.TempPathFactory, left: int, zeros: int
) -> None:
    """A killed process leaves less, a power cut may leave zeros."""
    path = filled(tmp_path_factory.mktemp("torn") / "latents")
    data = path.read_bytes()
    path.write_bytes(data[:left] + bytes(zeros))
    with LatentFile(path, shape=SHAPE) as file:
        assert file.record_bytes == 268
        assert_holds(file, left // 268)
        file.append(section(len(file)))
        assert_holds(file, left // 268 + 1)


def test_damage_in_the_middle_is_noticed(tmp_path: Path) -> None:
    path = filled(tmp_path / "latents")
    data = bytearray(path.read_bytes())
    data[268 + 100] ^= 1
    path.write_bytes(data)
    with LatentFile(path, shape=SHAPE) as file:
        assert len(file) == 4
        with pytest.raises(DamagedLatentsError, match="section 1 of"):
            file.read(1)
        file.read(2)


def test_a_record_in_the_wrong_place_is_noticed(tmp_path: Path) -> None:
    path = filled(tmp_path / "latents")
    data = path.read_bytes()
    path.write_bytes(data[268:536] + data[:268] + data[536:])
    with LatentFile(path, shape=SHAPE) as file, pytest.raises(DamagedLatentsError):
        file.read(0)


def test_sections_can_be_cut_off(tmp_path: Path) -> None:
    path = filled(tmp_path / "latents")
    with LatentFile(path, shape=SHAPE) as file:
        file.cut(1)
        file.append(section(1))
    with LatentFile(path, shape=SHAPE) as file:
        assert_holds(file, 2)
