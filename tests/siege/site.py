"""The besieged: our real programs under the memory limits that we ship; PostgreSQL is outside."""

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import apsw

from echo_ingest.broker import SERVICE
from echo_ingest.broker.node_accounts import NodeAccount, change_nodes, new_password, now
from echo_ingest.journal import JournalUnusable
from echo_ingest.journal.reader import JournalReader
from echo_ingest.sinks.postgres.rows import COLUMNS
from tests.cgroup import MemoryGroup
from tests.crash.programs import Program
from tests.harness import HTTP_TOKEN, PUB_PASSWORD, Harness, free_port
from tests.postgres import DATABASE, Cluster
from tests.siege import limits
from tests.siege.attackers import Target
from tests.siege.good import Role

Shape = Literal["up", "split"]

GOOD = 10
HERD = 2_000
BAD_NODE = "bad"
SERVICE_PASSWORD = "service-for-tests"
START_SECONDS_MAX = 60.0


class Site:
    """One installation; every process of it has ended when `close` returns."""

    def __init__(self, folder: Path, mosquitto: Path, shape: Shape) -> None:
        self.clips = folder / "clips"
        self.clips.mkdir(parents=True)
        self.postgres = Cluster()
        self._folder = folder
        self._house = Harness(folder / "data", mosquitto=mosquitto)
        self._passwords = self._add_nodes(folder / "nodes.jsonl")
        self._closing = contextlib.ExitStack()
        self.groups: list[tuple[str, MemoryGroup]] = []
        self.programs: dict[str, Program] = {}
        environment = {
            **self._house.environment(),
            "IOT_NODES_FILE": str(folder / "nodes.jsonl"),
            "IOT_OBJECTS_URL": self.clips.as_uri(),
            "IOT_POSTGRES_URL": self.postgres.url(DATABASE),
        }
        if shape == "up":
            self._add("up", limits.of_pod(), environment)
            return
        service_port = str(free_port())
        of_broker = {
            "IOT_DATA_DIR": str(folder / "broker"),
            "IOT_SERVICE_PORT": service_port,
            "IOT_SERVICE_PASSWORD": SERVICE_PASSWORD,
        }
        of_service = {
            "IOT_ENDPOINT": f"mqtt://127.0.0.1:{service_port}",
            "IOT_USER": SERVICE,
            "IOT_PASSWORD": SERVICE_PASSWORD,
        }
        self._add("broker", limits.of_service("broker"), {**environment, **of_broker})
        self._add("run", limits.of_service("ingestion"), {**environment, **of_service})

    # ------------------------------------------------------------------ who may connect

    @property
    def http_port(self) -> int:
        return self._house.http_port

    @property
    def journal(self) -> Path:
        return self._house.data_dir / "journal.db"

    def target(self) -> Target:
        """Return what attackers know."""
        return Target(
            self._house.mqtt_port,
            self._house.ws_port,
            self._house.http_port,
            BAD_NODE,
            self._passwords[BAD_NODE],
            PUB_PASSWORD,
            HTTP_TOKEN,
            tuple(each for each in self._passwords.items() if each[0].startswith("herd-")),
        )

    def roles(self) -> list[tuple[Role, int]]:
        """Return the good devices, each with its port: a mixture of all ways to connect."""
        roles = []
        for number in range(GOOD):
            name, websocket = f"good-{number}", number % 3 == 1
            user = name if number % 2 else "echopub"
            password = self._passwords[name] if number % 2 else PUB_PASSWORD
            version = 4 if number % 4 > 1 else 5
            role = Role(name, user, password, version, websocket, f"127.0.7.{number + 1}")
            port = self._house.ws_port if websocket else self._house.mqtt_port
            roles.append((role, port))
        return roles

    def _add_nodes(self, path: Path) -> dict[str, str]:
        names = [BAD_NODE]
        names += [f"good-{number}" for number in range(GOOD)]
        names += [f"herd-{number}" for number in range(HERD)]
        passwords, accounts = {}, {}
        for name in names:
            passwords[name], hashed = new_password()
            accounts[name] = NodeAccount(name, now(), hashed)
        change_nodes(path, lambda nodes: nodes.update(accounts))
        return passwords

    # ------------------------------------------------------------------ programs

    def _add(self, command: str, limit_bytes: int, environment: Mapping[str, str]) -> None:
        group = self._closing.enter_context(MemoryGroup(f"siege-{command}", limit_bytes))
        self.groups.append((command, group))
        line = [*group.enter, sys.executable, "-m", "echo_ingest.cli", command]
        self.programs[command] = Program(line, environment, self._log(command))

    def _log(self, command: str) -> Path:
        return self._folder / f"{command}.log"

    async def start(self) -> None:
        """Start everything, and wait until it is healthy."""
        await asyncio.to_thread(self.postgres.start)
        for program in self.programs.values():
            await program.start()
        async with asyncio.timeout(START_SECONDS_MAX):
            while not await asyncio.to_thread(self._is_healthy):
                await asyncio.sleep(0.2)

    def _is_healthy(self) -> bool:
        try:
            return self._house.http("/healthz")[0] == 200
        except (OSError, ValueError):
            return False

    async def stop(self) -> dict[str, int]:
        """Stop our programs in order, the one that reads first; return their exit codes."""
        return {name: await program.stop() for name, program in reversed(self.programs.items())}

    async def close(self) -> None:
        """End what still runs, and remove the limits."""
        for program in self.programs.values():
            if program.pid is not None:
                program.kill()
                await program.stop()
        self._closing.close()
        self.postgres.close()

    # ------------------------------------------------------------------ what it says of itself

    def counts(self) -> tuple[int, int]:
        """Return how much was received, and how much is not delivered; -1 if it cannot be read."""
        with contextlib.suppress(JournalUnusable, apsw.Error):
            with contextlib.closing(JournalReader(self.journal)) as reader:
                ledger = reader.ledger()
            return ledger.received, sum(sink.backlog for sink in ledger.sinks.values())
        return -1, -1

    def log_bytes(self) -> int:
        return sum(self._log(command).stat().st_size for command in self.programs)

    def events(self) -> tuple[Counter[str], list[str]]:
        """Return how often each event was logged, and the last line of each trace in the logs."""
        counts: Counter[str] = Counter()
        traces = []
        for command in self.programs:
            with self._log(command).open(errors="replace") as log:
                for line in log:
                    if "Traceback" in line:
                        traces.append(f"{command}: {line.strip()[-300:]}")
                    with contextlib.suppress(ValueError, TypeError, KeyError):
                        counts[json.loads(line)["event"]] += 1
        return counts, traces

    async def rows(self) -> Counter[bytes]:
        """Return how often PostgreSQL has each key."""
        tables = " UNION ALL ".join(f"SELECT key FROM echo.{name}" for name in COLUMNS)  # noqa: S608
        return Counter(key for (key,) in await self.postgres.rows(DATABASE, tables))
