"""What a process costs, as Linux counts it."""

import os
from pathlib import Path

from msgspec import Struct

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Usage(Struct, frozen=True):
    """What a process has used since its start."""

    user_seconds: float
    system_seconds: float
    rss_peak_bytes: int
    """The peak memory of the process itself."""
    children_rss_peak_bytes: int
    """Memory of the running processes that it has started, such as ours for HTTP and delivery."""
    written_bytes: int
    """Bytes written to the disk, or on their way there."""

    @property
    def memory_peak_bytes(self) -> int:
        """The sum of all processes; it counts shared pages more than once: see `shared_bytes`."""
        return self.rss_peak_bytes + self.children_rss_peak_bytes

    @property
    def cpu_seconds(self) -> float:
        """User and system time together."""
        return self.user_seconds + self.system_seconds


def usage_of(pid: int) -> Usage:
    """Return the usage of all threads of one process, and the memory of its children."""
    process = Path(f"/proc/{pid}")
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    user, system = (int(fields[at]) / TICKS_PER_SECOND for at in (11, 12))
    io = dict(_pairs((process / "io").read_text()))
    return Usage(
        user,
        system,
        _rss_peak_bytes(pid),
        sum(map(_rss_peak_bytes, _children(pid))),
        int(io["write_bytes"]),
    )


def shared_bytes(pid: int) -> int:
    """Return what a sum counts too often: pages of programs and libraries that all of them map."""
    each = [_clean_shared_bytes(number) for number in (pid, *_children(pid))]
    return sum(each) - max(each)


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _clean_shared_bytes(pid: int) -> int:
    sizes = dict(_pairs(Path(f"/proc/{pid}/smaps_rollup").read_text()))
    return int(sizes["Shared_Clean"].split()[0]) * 1024


def _rss_peak_bytes(pid: int) -> int:
    status = dict(_pairs(Path(f"/proc/{pid}/status").read_text()))
    return int(status["VmHWM"].split()[0]) * 1024


def _pairs(text: str) -> list[tuple[str, str]]:
    lines = (line.partition(":") for line in text.splitlines())
    return [(name, value.strip()) for name, _, value in lines]
