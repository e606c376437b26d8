"""How much memory there is for us, and how much a process takes."""

import contextlib
import os
from pathlib import Path

ROOT = Path("/")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def memory_bytes(root: Path = ROOT) -> int:
    """Return how much memory we may use: that of the machine, or what control groups leave of it.

    A pod, a container and a systemd unit are control groups; each may lie in others with limits.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES]
    with contextlib.suppress(OSError):  # only Linux has them
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if not controllers:  # version 2
                limits += _limits(root / "sys/fs/cgroup", name, "memory.max")
            elif "memory" in controllers.split(","):
                limits += _limits(root / "sys/fs/cgroup/memory", name, "memory.limit_in_bytes")
    return min(limits)


def _limits(top: Path, name: str, file: str) -> list[int]:
    """Return the limits of a group and of those around it, as far as they can be seen from here."""
    group = top / name.strip("/")
    limits = []
    for folder in (group, *group.parents):
        with contextlib.suppress(OSError, ValueError):  # it is another's, or "max"
            limits.append(int((folder / file).read_text()))
        if folder == top:
            break
    return limits


def resident_bytes(pid: int) -> int | None:
    """Return the memory that a process has for itself; None if the system does not tell."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return None
    return (int(resident) - int(shared)) * PAGE_BYTES
