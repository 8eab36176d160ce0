"""Journals on a real disk: torn, damaged, locked, full, and their process killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.journal import (
    MAGIC,
    Advanced,
    DamagedJournalError,
    Illustrated,
    Journal,
    JournalError,
    Opened,
    Prompted,
    Reader,
    Record,
    Syncer,
    UnknownWorldError,
    WorldInUseError,
)

OPENED = Opened("s", "tiny", 7, "a house", b"", (0, 0), section_frames=1, first_frame=0, capacity=64, created=1.5)
SECTIONS = [Advanced(bytes([i]) * 8, bytes([i]) * 100, bytes(12), recalls=i % 2 == 0) for i in range(5)]
RECORDS: list[Record] = [OPENED, *SECTIONS, Prompted("a garden"), Illustrated(3, b"jpeg")]
MIB = 1 << 20


def write(path: Path, records: list[Record] = RECORDS) -> Path:
    assert isinstance(records[0], Opened)
    journal = Journal.create(path, records[0], limit=MIB)
    for record in records[1:]:
        journal.append(record)
    journal.close()
    return path


def read(path: Path) -> tuple[list[Record], Reader]:
    reader = Reader(path)
    return list(reader), reader


def reopen(path: Path) -> Journal:
    journal = Journal(path, limit=MIB)
    journal.cut(read(path)[1].end)
    return journal


def boundaries(path: Path) -> list[int]:
    """Where each record begins, and where the last one ends."""
    reader = Reader(path)
    return [*(reader.end for _ in reader), reader.end]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    records, reader = read(write(tmp_path / "a"))
    assert records == RECORDS
    assert (reader.end, reader.torn) == ((tmp_path / "a").stat().st_size, 0)


def test_a_journal_can_be_continued(tmp_path: Path) -> None:
    path = write(tmp_path / "a", RECORDS[:3])
    journal = reopen(path)
    for record in RECORDS[3:]:
        journal.append(record)
    journal.close()
    assert read(path)[0] == RECORDS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_a_file_cut_anywhere_gives_all_whole_records_and_goes_on(tmp_path: Path, data: st.DataObject) -> None:
    path = write(tmp_path / "a")
    starts = boundaries(path)
    cut = data.draw(st.integers(len(MAGIC), path.stat().st_size))
    zeros = data.draw(st.sampled_from([0, 1, 5, 40]))
    os.truncate(path, cut)
    with path.open("ab") as file:
        file.write(bytes(zeros if cut in starts else 0))
    records, reader = read(path)
    whole = sum(start <= cut for start in starts[1:])
    assert records == RECORDS[:whole]
    assert reader.torn == path.stat().st_size - starts[whole]
    journal = reopen(path)
    journal.append(Prompted("after"))
    journal.close()
    assert read(path)[0] == [*RECORDS[:whole], Prompted("after")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_a_flipped_bit_before_the_last_record_is_damage_and_is_found(tmp_path: Path, data: st.DataObject) -> None:
    path = write(tmp_path / "a")
    starts = boundaries(path)
    place = data.draw(st.integers(len(MAGIC), starts[-2] - 1))
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    damaged = sum(start <= place for start in starts) - 1
    reader, records = Reader(path), []
    with pytest.raises(DamagedJournalError, match=f"expected a whole record at byte {starts[damaged]} of a"):
        records.extend(reader)
    assert reader.end == starts[damaged]


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"something else altogether")
    with pytest.raises(JournalError, match="expected a to begin with"):
        read(tmp_path / "a")
    with pytest.raises(UnknownWorldError, match="expected a world named b, got none"):
        read(tmp_path / "b")


def test_an_unknown_record_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a", RECORDS[:2])
    content = path.read_bytes()
    assert b"advanced" in content
    journal = reopen(path)
    journal.append({"t": "unheard of"})  # type: ignore[arg-type]
    journal.close()
    with pytest.raises(JournalError, match=f"expected a record at byte {len(content)}"):
        read(path)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "a", OPENED, limit=MIB)
    with pytest.raises(WorldInUseError, match="expected a to be free, got it in use"):
        reopen(tmp_path / "a")
    journal.close()
    reopen(tmp_path / "a").close()
    assert read(tmp_path / "a")[0] == [OPENED]


def test_a_journal_grows_no_further_than_its_limit(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path / "a", OPENED, limit=1_000)
    with pytest.raises(JournalError, match="expected at most 1000 bytes"):
        for _ in range(100):
            journal.append(SECTIONS[0])
    journal.close()
    assert (tmp_path / "a").stat().st_size <= 1_000
    assert read(tmp_path / "a")[1].torn == 0


FILL = """
import resource, signal, sys
from pathlib import Path
from server.journal import Journal, Opened, Prompted
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))
journal = Journal.create(Path(sys.argv[1]), Opened("s", "m", 0, "", b"", (0, 0), 1, 0, 8, 0.0), limit=1 << 20)
try:
    for i in range(1_000):
        journal.append(Prompted("x" * 300))
except OSError as error:
    journal.close()
    print(i, error.errno)
"""


def test_a_full_disk_leaves_whole_records(tmp_path: Path) -> None:
    """A file size limit fails writes as a full disk does: first short, then not at all."""
    command = [sys.executable, "-c", FILL, str(tmp_path / "a")]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    records, reader = read(tmp_path / "a")
    assert len(records) == 1 + int(output[0])
    assert len(records) > 5
    assert reader.torn == 0


def test_syncing_waits_for_what_was_asked_and_harms_no_closed_journal(tmp_path: Path) -> None:
    syncer = Syncer()
    syncer.start()
    journals = [Journal.create(tmp_path / name, OPENED, limit=MIB) for name in "ab"]
    journals[0].close()
    for journal in journals:
        syncer.sync_soon(journal)
    syncer.stop()
    journals[1].append(SECTIONS[0])
    journals[1].close()
    journals[1].close()
    assert read(tmp_path / "b")[0] == [OPENED, SECTIONS[0]]


def test_after_a_failed_sync_nothing_more_is_taken(tmp_path: Path) -> None:
    """fsync fails on what is no file of a disk; a pipe stands in for the broken one."""
    journal = Journal.create(tmp_path / "a", OPENED, limit=MIB)
    source, target = os.pipe()
    os.dup2(target, journal._file.fileno())
    journal.sync()
    with pytest.raises(OSError, match="Invalid argument"):
        journal.append(SECTIONS[0])
    journal.close()
    os.close(source)
    os.close(target)


WRITE = """
import sys
from pathlib import Path
from server.journal import Advanced, Journal, Opened
journal = Journal.create(Path(sys.argv[1]), Opened("s", "m", 0, "", b"", (0, 0), 1, 0, 8, 0.0), limit=1 << 30)
for i in range(1_000_000):
    journal.append(Advanced(b"", i.to_bytes(8, "little") * 5_000, b"", True))
    print(i, flush=True)
"""


def test_a_killed_process_loses_only_the_record_it_was_writing(tmp_path: Path) -> None:
    for attempt in range(3):
        path = tmp_path / f"{attempt}"
        process = subprocess.Popen([sys.executable, "-c", WRITE, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(20 * (attempt + 1)):
            said = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        said = (said + process.stdout.read()).split()[-1]
        process.wait()
        process.stdout.close()
        records, _ = read(path)
        sections = [record for record in records if isinstance(record, Advanced)]
        assert [int.from_bytes(section.latents[:8], "little") for section in sections] == list(range(len(sections)))
        assert int(said) < len(sections) <= int(said) + 2
