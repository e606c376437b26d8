"""A container of the image, with the calls that `tests.harness.House` has for a program."""

import json
import secrets
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.harness import PUB_PASSWORD, SUB_PASSWORD, Harness, eventually
from tests.image.engine import docker

# As strict as the image can be run; every test runs it so.
STRICT = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
PASSWORDS = {"IOT_PUB_PASSWORD": PUB_PASSWORD, "IOT_SUB_PASSWORD": SUB_PASSWORD}
GRACE_SECONDS = 30
MESSAGES = 5_000


class Container(Harness):
    """One container, its three ports on free ones of this machine's loopback address."""

    def __init__(
        self,
        image: str,
        network: str,
        *command: str,
        volume: str | None = None,
        options: Sequence[str] = STRICT,
        **settings: str,
    ) -> None:
        super().__init__(Path("/data"))
        self.name = f"echo-ingest-{secrets.token_hex(4)}"
        ports = {self.mqtt_port: 1883, self.ws_port: 9001, self.http_port: 80}
        docker(
            "create",
            *("--name", self.name, "--network", network),
            *(w for host, own in ports.items() for w in ("-p", f"127.0.0.1:{host}:{own}")),
            *(("-v", f"{volume}:/data") if volume else ()),
            *(w for name, value in settings.items() for w in ("-e", f"{name}={value}")),
            *options,
            image,
            *command,
        )

    def begin(self) -> None:
        """Start it and wait until it reports that it is healthy."""
        docker("start", self.name)

        def healthy() -> bool:
            assert self.state()["Running"], self.logs()
            return self.http("/healthz")[0] == 200

        eventually(healthy, seconds=40)

    def end(self) -> float:
        """Stop it in order and return how many seconds that took; fail if it had to be killed."""
        asked = time.monotonic()
        docker("stop", "-t", str(GRACE_SECONDS), self.name)
        took_seconds = time.monotonic() - asked
        state = self.state()
        assert state["ExitCode"] == 0, (state, self.logs())
        return took_seconds

    def signal(self, number: str) -> None:
        """Send a signal to the container's first process."""
        docker("kill", "-s", number, self.name)

    def inside(self, *words: str) -> str:
        """Return what a command in the container prints."""
        return docker("exec", self.name, *words).stdout

    def cli(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        assert stdin is None
        return docker("exec", self.name, "echo-ingest", *arguments)

    def address(self) -> str:
        """Return the address for other containers: a number, since not every engine knows names."""
        of_each = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return docker("inspect", "--format", of_each, self.name).stdout.strip()

    def state(self) -> dict[str, Any]:
        """Return the state that the engine reports."""
        state: dict[str, Any] = json.loads(
            docker("inspect", "--format", "{{json .State}}", self.name).stdout
        )
        return state

    def health(self) -> str:
        """Return `starting`, `healthy` or `unhealthy`, by the image's health check."""
        return str(self.state()["Health"]["Status"])

    def logs(self) -> str:
        """Return all that it has logged."""
        done = docker("logs", self.name)
        return done.stdout + done.stderr

    def close(self) -> None:
        """Remove it with its unnamed volumes; what it said is shown beside a test that failed."""
        print(self.name, self.logs())
        docker("rm", "--force", "--volumes", self.name)


def detections(run: str, count: int = MESSAGES) -> list[tuple[str, bytes]]:
    """Return `count` messages, each with its own id: the run, a dash, and a number."""
    return [
        (
            f"iotingestion/ridge-{n % 7}",
            b'{"type":"prediction","id":"%s-%d","sensor_id":"ridge-%d","timestamp":"1795451157",'
            b'"species":"Litoria ewingii","confidence":63.64}' % (run.encode(), n, n % 7),
        )
        for n in range(count)
    ]
