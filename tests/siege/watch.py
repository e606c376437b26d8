"""Watch the besieged: how long health is red, and how much memory is in use."""

import contextlib
import http.client
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from msgspec import Struct

from tests.cgroup import MemoryGroup

HEALTH_PAGES = ("/livez", "/readyz", "/healthz")
POLL_SECONDS = 1.0
ANSWER_SECONDS_MAX = 5.0
"""The timeout of the readiness probe in our manifest."""
LOOK_SECONDS = 0.25
PROCESSES = {
    "echo_ingest.pipeline.deliver": "delivery",
    "echo_ingest.web": "web",
    "echo_ingest.proxy": "proxy",
    "mosquitto": "mosquitto",
    "echo_ingest.cli": "service",
}
"""How a process is known by its command line, the first that fits."""


class HealthPage(Struct):
    """What one page answered throughout."""

    answers: Counter[str]
    longest_red_seconds: float = 0.0
    red: list[tuple[float, float]] = []
    """From when to when it was red, in seconds from the beginning."""


class HealthWatch:
    """Asks each page every second, in a thread of its own and anew as a probe does."""

    def __init__(self, port: int) -> None:
        self.pages = {path: HealthPage(Counter(), red=[]) for path in HEALTH_PAGES}
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._poll, args=(path,)) for path in HEALTH_PAGES]

    def __enter__(self) -> Self:
        self._began_at = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _poll(self, path: str) -> None:
        page = self.pages[path]
        red_since: float | None = None
        is_last = False
        while not is_last:
            is_last = self._over.is_set()
            asked_at = time.monotonic()
            answer = self._ask(path)
            page.answers[answer] += 1
            is_green = answer == "200"
            if not is_green and red_since is None:
                red_since = asked_at
            if red_since is not None and (is_green or is_last):
                now = time.monotonic()
                page.red.append((red_since - self._began_at, now - self._began_at))
                page.longest_red_seconds = max(page.longest_red_seconds, now - red_since)
                red_since = None
            self._over.wait(max(0.0, asked_at + POLL_SECONDS - time.monotonic()))

    def _ask(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS_MAX)
        with contextlib.closing(connection):
            try:
                connection.request("GET", path)
                reply = connection.getresponse()
                body = reply.read(500).decode(errors="replace")
            except (OSError, http.client.HTTPException) as error:
                return type(error).__name__
        return "200" if reply.status == 200 else f"{reply.status} {body.strip()}"


class MemoryWatch:
    """Looks at the groups several times a second, in a thread of its own."""

    def __init__(self, groups: Sequence[tuple[str, MemoryGroup]]) -> None:
        self.peak_bytes: Counter[str] = Counter()
        """The most memory in use that the kernel could not drop, by group."""
        self.process_peak_bytes: Counter[str] = Counter()
        """The most resident memory that any process of a name has had."""
        self.processes: defaultdict[str, set[int]] = defaultdict(set)
        """The processes that there were, by name."""
        self._groups = groups
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            for name, group in self._groups:
                self.peak_bytes[name] = max(self.peak_bytes[name], group.used_bytes)
                for pid in group.pids:
                    self._look(pid)

    def _look(self, pid: int) -> None:
        process = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError):  # it has just ended
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            name = next((name for part, name in PROCESSES.items() if part in command), None)
            if name is None:
                return
            for line in (process / "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak_bytes = int(line.split()[1]) * 1024
                    self.process_peak_bytes[name] = max(self.process_peak_bytes[name], peak_bytes)
                    self.processes[name].add(pid)
