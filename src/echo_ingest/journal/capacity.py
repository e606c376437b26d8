"""How much more the journal may hold: below its own cap, and above what its disk keeps free."""

import os
from pathlib import Path

from msgspec import Struct

from echo_ingest.journal.journal_file import JournalFull


class Capacity(Struct, frozen=True):
    """The limits of the journal at `path`; `bytes_max` 0 means no cap of our own."""

    path: Path
    bytes_max: int
    disk_free_bytes_min: int

    def disk_free_bytes(self) -> int:
        """Return how many bytes the file system would still give us."""
        status = os.statvfs(self.path.parent)
        return status.f_bavail * status.f_frsize

    def left_bytes(self, used_bytes: int) -> int:
        """Return how many more bytes may be written to a journal that uses `used_bytes`."""
        left = self.disk_free_bytes() - self.disk_free_bytes_min
        if self.bytes_max:
            left = min(left, self.bytes_max - used_bytes)
        return max(left, 0)

    def require(self, used_bytes: int) -> None:
        """Raise `JournalFull`, with the remedy in its text, if nothing more may be written."""
        if self.bytes_max and used_bytes >= self.bytes_max:
            raise JournalFull(
                f"the journal holds {used_bytes:,} bytes, its cap is {self.bytes_max:,}; "
                "raise IOT_JOURNAL_BYTES_MAX or set IOT_RETENTION_DAYS"
            )
        free = self.disk_free_bytes()
        if free < self.disk_free_bytes_min:
            raise JournalFull(
                f"the disk that holds {self.path} has {free:,} bytes free, and "
                f"{self.disk_free_bytes_min:,} must stay free (IOT_DISK_FREE_BYTES_MIN); make room"
            )
