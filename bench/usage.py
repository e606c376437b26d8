"""What a process costs, as Linux counts it."""

import os
from pathlib import Path

from msgspec import Struct

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Usage(Struct, frozen=True):
    """Since its start."""

    user_seconds: float
    system_seconds: float
    rss_peak_bytes: int
    written_bytes: int
    """To the disk, or on their way there."""

    @property
    def cpu_seconds(self) -> float:
        """User and system together."""
        return self.user_seconds + self.system_seconds


def usage_of(pid: int) -> Usage:
    """All threads of one process, without its children."""
    process = Path(f"/proc/{pid}")
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    user, system = (int(fields[at]) / TICKS_PER_SECOND for at in (11, 12))
    status = dict(_pairs((process / "status").read_text()))
    io = dict(_pairs((process / "io").read_text()))
    return Usage(user, system, int(status["VmHWM"].split()[0]) * 1024, int(io["write_bytes"]))


def _pairs(text: str) -> list[tuple[str, str]]:
    lines = (line.partition(":") for line in text.splitlines())
    return [(name, value.strip()) for name, _, value in lines]
