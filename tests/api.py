"""The Echo API's replica as a process on a fixed port, so that it can be stopped and started."""

import json
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from tests.harness import free_port
from tests.server import Server


class Api:
    """One replica; with `log` what it stored outlives being stopped and killed."""

    def __init__(self, log: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._server: Server | None = None

    def start(self, **options: object) -> None:
        self._server = Server(
            [sys.executable, "-m", "tests.replica", "--port", str(self.port),
             "--set", json.dumps(options), *(["--log", str(self._log)] if self._log else [])],
            lambda: self._get("/_received"),
            cwd=Path(__file__).parents[1],
        )  # fmt: skip
        self._server.start()

    @property
    def is_running(self) -> bool:
        return self._server is not None and self._server.is_running

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def kill(self) -> None:
        assert self._server is not None
        self._server.kill()

    def freeze(self) -> None:
        assert self._server is not None
        self._server.freeze()

    def thaw(self) -> None:
        assert self._server is not None
        self._server.thaw()

    def change(self, **options: object) -> None:
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.url}/_set", json.dumps(options).encode(), method="POST"
        )
        urllib.request.urlopen(request, timeout=5).close()  # noqa: S310

    def received(self) -> list[dict[str, Any]]:
        if self._log is not None:
            lines = self._log.read_bytes().splitlines() if self._log.exists() else []
            return [json.loads(line) for line in lines if line.endswith(b"}")]
        received: list[dict[str, Any]] = json.loads(self._get("/_received"))
        return received

    def numbers(self) -> Counter[str]:
        """Return how often each event was stored, by the sensor id that the test gave it."""
        return Counter(
            str(each["document"]["sensorId"])
            for each in self.received()
            if each["collection"] in ("events", "detections")
        )

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=5) as reply:  # noqa: S310
            body: bytes = reply.read()
            return body
