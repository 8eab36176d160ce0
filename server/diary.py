"""What the engine writes down of one session: its journal, or, after the disk failed it, nothing; the game goes on."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .journal import Journal, JournalError, Opened, Reader, Record, Syncer
from .worlds import new_world

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DiaryConfig:
    """Where journals go. Without a folder nothing is written."""

    folder: Path | None = None
    limit: int = 4 << 30  # bytes of one world


class Diary:
    """Follows one session from world to world. Its methods never fail: `problem` says why nothing is written."""

    def __init__(self, config: DiaryConfig, syncer: Syncer) -> None:
        self.problem = "" if config.folder else "no folder for journals was given"
        self._config, self._syncer = config, syncer
        self._journal: Journal | None = None
        self._session = ""

    def begin(self, opened: Opened) -> None:
        """Close the journal of the world that was left and begin that of a new one."""
        self.close()
        folder = self._config.folder
        if folder is None:
            return
        self.problem, self._session = "", opened.session
        self._attempt(partial(self._create, folder, opened))

    def resume(self, journal: Journal, reader: Reader) -> None:
        """Go on in the journal of a world that was brought back by `reader`."""
        self._journal, self._session = journal, journal.path.stem.rpartition(".")[0]
        self._attempt(partial(journal.cut, reader.end))

    def write(self, record: Record) -> None:
        """Survives the process on return and the power soon after."""
        if (journal := self._journal) is not None and self._attempt(partial(journal.append, record)):
            self._syncer.sync_soon(journal)

    def close(self) -> None:
        if (journal := self._journal) is not None:
            self._journal = None
            self._attempt(journal.close)

    def _create(self, folder: Path, opened: Opened) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._journal = Journal.create(new_world(folder, opened.session), opened, limit=self._config.limit)

    def _drop(self) -> None:
        if (journal := self._journal) is not None:
            self._journal = None
            with suppress(OSError):  # the disk has failed already
                journal.close()

    def _attempt(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except (OSError, JournalError) as error:
            logger.error("no longer written down: %s", error, extra={"session": self._session})
            self.problem = str(error)
            self._drop()
            return False
        return True
