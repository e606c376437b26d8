"""A control group that limits the memory of processes, as a container does; version 1 or 2."""

import itertools
import os
from pathlib import Path

from tests.harness import eventually

ROOT = Path("/sys/fs/cgroup")
_numbers = itertools.count()


class MemoryGroup:
    """A group whose processes have `limit_bytes` of memory together, and no swap."""

    def __init__(self, limit_bytes: int) -> None:
        """Raise `OSError` where no such group can be made."""
        self._is_v2 = (ROOT / "cgroup.controllers").exists()
        parent = ROOT if self._is_v2 else ROOT / "memory"
        if self._is_v2 and "memory" not in (ROOT / "cgroup.subtree_control").read_text().split():
            (ROOT / "cgroup.subtree_control").write_text("+memory")
        self._folder = parent / f"echo-ingest-{os.getpid()}-{next(_numbers)}"
        self._folder.mkdir()
        try:
            if self._is_v2:
                limits = ("memory.max", "memory.swap.max"), (limit_bytes, 0)
            else:
                names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
                limits = names, (limit_bytes, limit_bytes)
            for name, value in zip(*limits, strict=True):
                if (self._folder / name).exists():  # the second, only where swap is accounted for
                    (self._folder / name).write_text(str(value))
        except OSError:
            self.close()
            raise

    def add(self, pid: int) -> None:
        """Move a process into the group; those that it starts from now on belong to it too."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def pids(self) -> set[int]:
        """Return the processes in it."""
        return set(map(int, (self._folder / "cgroup.procs").read_text().split()))

    def kills(self) -> int:
        """Return how many processes the kernel has ended since the limit was reached."""
        name = "memory.events" if self._is_v2 else "memory.oom_control"
        figures = dict(map(str.split, (self._folder / name).read_text().splitlines()))
        return int(figures["oom_kill"])

    def close(self) -> None:
        """Remove the group, once its processes have ended."""

        def is_removed() -> bool:
            self._folder.rmdir()
            return True

        eventually(is_removed)
