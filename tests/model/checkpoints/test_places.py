"""Finding repositories: every layout that users have, and errors that say what to do."""

import json
from pathlib import Path

import pytest

from model.checkpoints.places import Component, MissingWeightsError, Shelf, stand_in

UNET = Component("transformer", "owner/name", "unet", "weights")


def write(folder: Path, *, shards: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    names = ["weights.safetensors"] if shards == 1 else [f"weights-{i}-of-{shards}.safetensors" for i in range(shards)]
    for name in names:
        (folder / name).write_bytes(bytes(10))
    if shards > 1:
        index = {"weight_map": {f"{i}": name for i, name in enumerate(names)}}
        (folder / "weights.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("place", ["owner/name/unet", "name/unet", "unet", "models--owner--name/snapshots/abc/unet"])
@pytest.mark.parametrize("shards", [1, 3])
def test_every_layout_is_found(tmp_path: Path, place: str, shards: int) -> None:
    folder = write(tmp_path / place, shards=shards)
    found = Shelf((tmp_path / "elsewhere", tmp_path)).find(UNET)
    assert found.folder == folder
    assert len(found.weights) == shards and found.num_bytes == 10 * shards


def test_of_a_cache_the_main_revision_counts(tmp_path: Path) -> None:
    top = tmp_path / "models--owner--name"
    for revision in ("aaa", "bbb", "ccc"):
        write(top / "snapshots" / revision / "unet")
    (top / "refs").mkdir()
    (top / "refs" / "main").write_text("bbb\n")
    assert Shelf((tmp_path,)).find(UNET).folder == top / "snapshots" / "bbb" / "unet"


def test_an_incomplete_place_is_passed_over_for_a_whole_one(tmp_path: Path) -> None:
    write(tmp_path / "owner" / "name" / "unet", shards=2)
    (tmp_path / "owner" / "name" / "unet" / "weights-1-of-2.safetensors").unlink()
    whole = write(tmp_path / "name" / "unet")
    assert Shelf((tmp_path,)).find(UNET).folder == whole


def test_what_is_not_there_is_named_with_where_it_was_looked_for_and_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError) as caught:
        Shelf((tmp_path,)).find(UNET)
    message = str(caught.value)
    assert "no unet/config.json" in message
    assert str(tmp_path / "owner" / "name" / "unet") in message
    assert "hf download owner/name --include 'unet/*'" in message


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "name" / "unet", shards=3)
    (folder / "weights-1-of-3.safetensors").unlink()
    with pytest.raises(MissingWeightsError) as caught:
        Shelf((tmp_path,)).find(UNET)
    missing, _, _ = str(caught.value).partition("; looked in")
    assert str(folder / "weights-1-of-3.safetensors") in missing and "weights-0" not in missing


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": 3}'])
def test_an_index_that_is_none_is_named(tmp_path: Path, index: str) -> None:
    folder = write(tmp_path / "name" / "unet", shards=2)
    (folder / "weights.safetensors.index.json").write_text(index)
    with pytest.raises(MissingWeightsError, match="weights.safetensors.index.json"):
        Shelf((tmp_path,)).find(UNET)


def test_one_file_or_an_index_stands_in(tmp_path: Path) -> None:
    folder = write(tmp_path, shards=3)
    alone = stand_in(UNET, folder / "weights-1-of-3.safetensors")
    assert alone.num_bytes == 10 and alone.is_configured
    index = folder / "weights.safetensors.index.json"
    assert stand_in(UNET, index).num_bytes == 30
    (folder / "config.json").unlink()
    assert not stand_in(UNET, index).is_configured
    (folder / "weights-2-of-3.safetensors").unlink()
    for path in (index, folder / "other.safetensors", folder / "other.safetensors.index.json", folder):
        missing = folder / "weights-2-of-3.safetensors" if path == index else path
        with pytest.raises(MissingWeightsError, match=f"no file {missing}.*hf download owner/name --include 'unet/"):
            stand_in(UNET, path)
