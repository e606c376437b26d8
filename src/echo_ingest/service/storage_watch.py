"""Watches that journal, data folder and secrets stay where they are while the service runs.

What goes to a file that was removed or replaced is gone when the process ends. So the service is
not ready any more, saves what can be saved, and ends with the reason. Each batch looks for the
journal itself before it is acknowledged (`Journal.append`); this finds what happens in between.
The almanac needs no watch: the web process makes it again.
"""

import asyncio
import contextlib
import shutil
from datetime import UTC, datetime
from pathlib import Path

import structlog

from echo_ingest.journal import Journal, JournalFull, JournalGone
from echo_ingest.journal.open_files import file_of
from echo_ingest.payload_view import size
from echo_ingest.settings.secrets import FOLDER

PERIOD_SECONDS = 1.0
NOTICE_SECONDS = 6.0
"""The service stays, not ready, for as long: a probe that comes every five seconds sees why."""

log = structlog.get_logger("storage")


class StorageWatch:
    """Watches the files of `journal`, and the secrets in the data folder."""

    def __init__(self, journal: Journal, data_dir: Path) -> None:
        self.problem: str | None = None
        """What is gone, in words; None as long as all is in its place."""
        self._journal = journal
        self._secrets = data_dir / FOLDER
        self._secrets_known = file_of(self._secrets)

    async def run(self) -> str:
        """Wait until something is gone, and return what, and what to do.

        Raises `apsw.CorruptError` if the journal was overwritten.
        """
        while self.problem is None:
            await asyncio.sleep(PERIOD_SECONDS)
            self.problem = self._look()
        log.error("storage gone", reason=self.problem, meaning="nothing more is acknowledged")
        if self._journal.files.gone is not None:
            self._journal.files.write_back()
        await asyncio.sleep(NOTICE_SECONDS)
        return self.problem

    def _look(self) -> str | None:
        try:
            self._journal.files.require()
        except JournalGone as error:
            return str(error)
        self._journal.files.require_content()
        secrets = file_of(self._secrets)
        if self._secrets_known and secrets != self._secrets_known:
            return (
                f"{self._secrets} was removed or replaced while the service used it. Bring it back "
                "before you start again: without it, a start makes new passwords and tokens, and "
                "devices that know the old ones cannot connect"
            )
        self._secrets_known = secrets
        return None

    async def rescued(self, stopping: asyncio.Event) -> str:
        """Copy what only the open file still holds, when nobody writes to it any more.

        Return a sentence about it; an empty one if there is nothing to rescue.
        """
        if self._journal.files.gone is None or not self._journal.files.may_be_rescued:
            return ""
        needed_bytes = self._journal.used_bytes()
        free_bytes = shutil.disk_usage(self._journal.path.parent).free
        lost = "; what it held is lost, unless there is a backup"
        if free_bytes < needed_bytes:
            return f"{lost}: there is no room for a copy of {size(needed_bytes)}"
        path = self._journal.path.absolute()
        copy = path.with_name(f"{path.name}.rescued-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        try:
            with contextlib.closing(self._journal.files.rescue(copy)) as steps:
                for _ in steps:
                    if stopping.is_set():
                        return f"{lost}: saving it was interrupted"
                    await asyncio.sleep(0)
        except (JournalFull, OSError) as error:
            return f"{lost}: {error}"
        return f": what it held is saved as {copy}, which can take its place"
