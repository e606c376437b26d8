"""On which machine a figure was measured."""

import os
import platform
from pathlib import Path

import apsw


def machine() -> dict[str, object]:
    """Describe the machine, for results that are committed."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": platform.platform(),
        "processor": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30),
    }


def versions(mosquitto: tuple[int, int, int]) -> dict[str, str]:
    """Return the versions of the programs that decide how it behaves."""
    return {
        "mosquitto": ".".join(map(str, mosquitto)),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
    }


def _cpu() -> str:
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = text.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
