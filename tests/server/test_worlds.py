"""A folder of worlds: names, listing, checks, export, removal, and nothing outside of it."""

import os
from pathlib import Path

import pytest

from server.journal import Advanced, Journal, Opened, Reader, UnknownWorldError, WorldInUseError
from server.worlds import check_world, export_world, list_worlds, new_world, newest_world, remove_world, world_path

SECTION = Advanced(bytes(16), bytes(100), bytes(12), recalls=True)


def opened(session: str) -> Opened:
    return Opened(session, "tiny", 7, "", b"", (0, 0), section_frames=2, first_frame=0, capacity=64, created=1.5)


def save(folder: Path, session: str, num_sections: int) -> Path:
    journal = Journal.create(new_world(folder, session), opened(session), limit=1 << 20)
    for _ in range(num_sections):
        journal.append(SECTION)
    journal.close()
    return journal.path


def test_a_sessions_worlds_are_numbered(tmp_path: Path) -> None:
    names = [save(tmp_path, session, 1).name for session in ("ab", "ab", "a", "ab")]
    assert names == ["ab.0000.world", "ab.0001.world", "a.0000.world", "ab.0002.world"]
    assert newest_world(tmp_path, "ab").name == "ab.0002.world"
    assert newest_world(tmp_path, "a").name == "a.0000.world"
    with pytest.raises(UnknownWorldError, match="expected a session with a saved world, got 'b'"):
        newest_world(tmp_path, "b")


@pytest.mark.parametrize("name", ["../a.0000", "a", "a.0000.world", "", "*.0000", "b.0000", "a/../a.0000"])
def test_names_that_are_no_worlds(tmp_path: Path, name: str) -> None:
    save(tmp_path, "a", 1)
    with pytest.raises(UnknownWorldError, match="expected the name of a world"):
        world_path(tmp_path, name)


@pytest.mark.parametrize("session", ["../a", "", "*", "a.b", "x" * 65])
def test_ids_that_are_no_sessions(tmp_path: Path, session: str) -> None:
    with pytest.raises(UnknownWorldError, match="expected a session's id"):
        newest_world(tmp_path, session)


def test_listing_tells_the_good_from_the_bad(tmp_path: Path) -> None:
    good = save(tmp_path, "b", 3)
    save(tmp_path, "a", 1).write_bytes(b"overwritten")
    (tmp_path / "notes.txt").write_text("not a world")
    bad, listed = list_worlds(tmp_path)
    assert (listed.name, listed.opened, listed.num_bytes) == ("b.0000", opened("b"), good.stat().st_size)
    assert (bad.name, bad.opened) == ("a.0000", None)
    assert "expected a.0000.world to begin with" in bad.problem


def test_checking_counts_whole_sections_and_torn_bytes(tmp_path: Path) -> None:
    path = save(tmp_path, "a", 3)
    size = path.stat().st_size
    whole = check_world(tmp_path, "a.0000")
    assert (whole.num_sections, whole.num_frames, whole.num_bytes, whole.num_torn_bytes) == (3, 6, size, 0)
    os.truncate(path, size - 1)
    torn = check_world(tmp_path, "a.0000")
    assert (torn.num_sections, torn.num_frames, torn.num_bytes + torn.num_torn_bytes) == (2, 4, size - 1)
    assert torn.problem == ""


def test_checking_says_where_the_damage_is(tmp_path: Path) -> None:
    path = save(tmp_path, "a", 3)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    check = check_world(tmp_path, "a.0000")
    assert f"expected a whole record at byte {check.num_bytes} of a.0000.world" in check.problem
    assert check.num_sections < 3


def test_an_export_is_a_world_without_its_torn_end(tmp_path: Path) -> None:
    path = save(tmp_path, "a", 3)
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(b"torn")
    target = tmp_path / "elsewhere"
    assert export_world(tmp_path, "a.0000", to=target).num_torn_bytes == 4
    assert target.read_bytes() == whole
    assert sum(isinstance(record, Advanced) for record in Reader(target)) == 3
    with pytest.raises(FileExistsError):
        export_world(tmp_path, "a.0000", to=target)


def test_a_world_in_use_is_not_removed(tmp_path: Path) -> None:
    path = save(tmp_path, "a", 1)
    journal = Journal(path, limit=1 << 20)
    with pytest.raises(WorldInUseError, match=r"expected a\.0000 to be free"):
        remove_world(tmp_path, "a.0000")
    journal.close()
    remove_world(tmp_path, "a.0000")
    assert list_worlds(tmp_path) == []
