"""What is written of a session: world after world, and nothing once the disk failed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.diary import Diary, DiaryConfig
from server.journal import Journal, Opened, Prompted, Reader, Record, Syncer
from server.worlds import list_worlds, newest_world


@pytest.fixture
def syncer() -> Iterator[Syncer]:
    made = Syncer()
    made.start()
    yield made
    made.stop()


def opened(prompt: str) -> Opened:
    return Opened("s", "tiny", 7, prompt, b"", (0, 0), section_frames=1, first_frame=0, capacity=64, created=1.5)


def written(folder: Path) -> list[list[Record]]:
    return [list(Reader(folder / f"{world.name}.world")) for world in list_worlds(folder)]


def test_every_world_of_a_session_has_its_journal(tmp_path: Path, syncer: Syncer) -> None:
    diary = Diary(DiaryConfig(tmp_path / "new" / "folder"), syncer)
    for prompt in ("one", "two"):
        diary.begin(opened(prompt))
        diary.write(Prompted(prompt * 2))
    diary.close()
    diary.close()
    assert diary.problem == ""
    assert written(tmp_path / "new" / "folder") == [
        [opened("one"), Prompted("oneone")],
        [opened("two"), Prompted("twotwo")],
    ]


def test_a_journal_is_continued_without_its_torn_end(tmp_path: Path, syncer: Syncer) -> None:
    diary = Diary(DiaryConfig(tmp_path), syncer)
    diary.begin(opened("one"))
    diary.close()
    path = newest_world(tmp_path, "s")
    with path.open("ab") as file:
        file.write(b"torn")
    journal, reader = Journal(path, limit=1 << 20), Reader(path)
    list(reader)
    diary.resume(journal, reader)
    diary.write(Prompted("more"))
    diary.close()
    assert written(tmp_path) == [[opened("one"), Prompted("more")]]


def test_without_a_folder_nothing_is_written(tmp_path: Path, syncer: Syncer) -> None:
    diary = Diary(DiaryConfig(), syncer)
    diary.begin(opened("one"))
    diary.write(Prompted("more"))
    diary.close()
    assert diary.problem == "no folder for journals was given"
    assert list(tmp_path.iterdir()) == []


def test_after_a_failure_nothing_is_written_until_the_next_world(
    tmp_path: Path, syncer: Syncer, caplog: pytest.LogCaptureFixture
) -> None:
    diary = Diary(DiaryConfig(tmp_path, limit=1_000), syncer)
    diary.begin(opened("one"))
    for text in ("x" * 2_000, "small"):
        diary.write(Prompted(text))
    assert "expected at most 1000 bytes" in diary.problem
    assert caplog.text.count("no longer written down") == 1
    diary.begin(opened("two"))
    diary.write(Prompted("small"))
    diary.close()
    assert diary.problem == ""
    assert written(tmp_path) == [[opened("one")], [opened("two"), Prompted("small")]]
