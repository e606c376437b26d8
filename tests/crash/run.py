"""One run: start everything, break it by the plan while messages flow, mend it, drain it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path

import apsw

from echo_ingest.broker import SERVICE
from echo_ingest.journal import JournalUnusable
from echo_ingest.journal.reader import JournalReader
from echo_ingest.sinks.postgres.rows import COLUMNS
from tests.crash.devices import Answers, Device, WaitsFor
from tests.crash.evidence import NODES, Done, Evidence
from tests.crash.faults import Fault, plan
from tests.crash.messages import REFUSED_SPECIES
from tests.crash.programs import Program, delivery_of, mosquitto_of, proxy_of, send
from tests.harness import Harness, free_port
from tests.postgres import DATABASE, Cluster
from tests.proxy import Proxy

RELEASED_MESSAGES = 2_000
"""How far devices may be ahead of the next fault: there is traffic at each."""
PROGRESS_SECONDS_MAX = 4.0
"""The next fault comes after this time, however few messages have been done."""
SERVICE_PASSWORD = "service-for-tests"
STOP_ORDER = ("service", "broker", "api", "postgres")
START_SECONDS_MAX = 60.0
DRAIN_SECONDS_MAX = 600.0
STILL_SECONDS = 2.0
SHOWN = 10


class Run:
    """The parts of one installation, and what breaks them."""

    def __init__(
        self, folder: Path, mosquitto: Path, version: tuple[int, int, int], seed: int, messages: int
    ) -> None:
        self.messages = messages
        self.answers = Answers(messages + len(NODES))
        self.kills = 0
        self._seed = seed
        self._version = version
        self._folder = folder
        api_port, service_port = free_port(), free_port()
        self._house = Harness(
            folder / "data", mosquitto=mosquitto, IOT_SERVICE_PORT=str(service_port)
        )
        self._postgres = Cluster()
        self._links = {
            "devices": Proxy(self._house.mqtt_port),
            "service": Proxy(service_port),
            "api": Proxy(api_port),
            "postgres": Proxy(self._postgres.port),
        }
        ours = {**self._house.environment(), "IOT_SERVICE_PASSWORD": SERVICE_PASSWORD}
        self._clips = folder / "clips"
        self._clips.mkdir()
        of_service = {
            **ours,
            # Beside its broker it would go through a socket of their own, past the faults.
            "IOT_ENDPOINT": f"127.0.0.1:{self._links['service'].port}",
            "IOT_USER": SERVICE,
            "IOT_PASSWORD": SERVICE_PASSWORD,
            "IOT_API_URL": f"http://127.0.0.1:{self._links['api'].port}",
            "IOT_OBJECTS_URL": self._clips.as_uri(),
            "IOT_POSTGRES_URL": self._postgres.url(DATABASE, port=self._links["postgres"].port),
        }
        options = {"nodes": NODES, "refuse_species": REFUSED_SPECIES}
        python = [sys.executable, "-m"]
        replica = [*python, "tests.replica", "--port", str(api_port), "--set", json.dumps(options)]
        replica += ["--log", str(folder / "delivered.jsonl")]
        cli = [*python, "echo_ingest.cli"]
        self._programs = {
            name: Program(command, environment, folder / f"{name}.log")
            for name, command, environment in (
                ("broker", [*cli, "broker"], ours),
                ("service", [*cli, "run"], of_service),
                ("api", replica, ours),
                ("postgres", self._postgres.command, {**os.environ}),
            )
        }
        # Mostly what the broker promises: on 2.1 the PUBACK is the promise, on 2.0 the receipt.
        most: WaitsFor = "puback" if version >= (2, 1, 0) else "receipt"
        few: WaitsFor = "receipt" if version >= (2, 1, 0) else "puback"
        self._waits_for = (*[most] * (len(NODES) - 2), few, few)
        self._reconnects = 0
        self._happened: list[Done] = []
        self._problems: list[str] = []
        self._pauses: set[asyncio.Task[None]] = set()

    async def go(self, kills: int, on_progress: Callable[["Run"], None]) -> Evidence:
        """Run everything; all processes have ended when this returns."""
        started = time.monotonic()
        try:
            for link in self._links.values():
                await link.start()
            await self._start()
            await self._flow(plan(self._seed, kills, self.messages), on_progress)
            flowed = time.monotonic()
            await self._restart()
            await self._drain()
            keys = await self._keys()
            await self._stop()
        finally:
            await self._end()
        return Evidence(
            self._seed,
            self.messages,
            self._version,
            self._house.data_dir / "journal.db",
            self._folder / "delivered.jsonl",
            self._clips,
            keys,
            self.answers,
            self._happened,
            self._problems,
            {name: program.starts for name, program in self._programs.items()},
            self._transitions(),
            self._reconnects,
            flowed - started,
            time.monotonic() - flowed,
        )

    # ------------------------------------------------------------------ start and end

    async def _start(self) -> None:
        """Start everything, and wait until the service has its session: before, nobody listens."""
        for name in reversed(STOP_ORDER):
            await self._programs[name].start()
        async with asyncio.timeout(START_SECONDS_MAX):
            while not await asyncio.to_thread(self._is_healthy):
                await asyncio.sleep(0.1)

    def _is_healthy(self) -> bool:
        try:
            return self._house.http("/healthz")[0] == 200
        except OSError:
            return False

    async def _restart(self) -> None:
        """Mend everything that was broken, and restart it in order."""
        if self._pauses:
            await asyncio.wait(self._pauses)
        for program in (self._programs[name] for name in STOP_ORDER):
            await program.stop()
        await self._start()

    async def _stop(self) -> None:
        """Stop the programs, which must end in order if they had started."""
        for name in STOP_ORDER:
            code = await self._programs[name].stop()
            if code != 0 and name in ("service", "broker"):
                self._problems.append(f"{name} stopped with exit code {code}")

    def _transitions(self) -> dict[str, int]:
        """Read what the service has logged; what must not be in there is a problem."""
        counts: Counter[str] = Counter()
        with (self._folder / "service.log").open() as log:
            for line in log:
                with contextlib.suppress(ValueError):  # killed within a line
                    counts[json.loads(line)["event"]] += 1
        if counts["session lost"] and self._version >= (2, 1, 0):
            self._problems.append(f"the broker forgot our session {counts['session lost']} times")
        for name in ("service", "api"):
            codes = [code for _, code in self._programs[name].ends]
            if codes:
                self._problems.append(f"{name} ended by itself, exit codes {codes[:SHOWN]}")
        return dict(sorted(counts.items()))

    async def _end(self) -> None:
        for program in self._programs.values():
            if program.pid is not None:
                program.kill()
                await program.stop()
        for pid in map(self._pid, ("mosquitto", "proxy", "delivery")):
            if pid is not None:
                send(pid, signal.SIGKILL)
        for link in self._links.values():
            await link.stop()
        self._postgres.close()

    # ------------------------------------------------------------------ while messages flow

    async def _flow(self, faults: list[Fault], on_progress: Callable[["Run"], None]) -> None:
        port = self._links["devices"].port
        devices = [
            Device(
                self._seed,
                node,
                self._waits_for[index],
                iter(range(index, self.messages, len(NODES))),
                self.answers,
                port,
            )
            for index, node in enumerate(NODES)
        ]
        watching = asyncio.create_task(self._watch(on_progress))
        breaking = asyncio.create_task(self._break(faults))
        try:
            await asyncio.gather(breaking, *(device.run() for device in devices))
        finally:
            watching.cancel()
            breaking.cancel()
            self._reconnects = sum(device.reconnects for device in devices)
        on_progress(self)

    async def _watch(self, on_progress: Callable[["Run"], None]) -> None:
        while True:
            on_progress(self)
            await asyncio.sleep(0.5)

    async def _break(self, faults: list[Fault]) -> None:
        for fault in faults:
            self.answers.released = fault.after + RELEASED_MESSAGES
            patience = time.monotonic() + PROGRESS_SECONDS_MAX
            while self.answers.done < fault.after and time.monotonic() < patience:
                await asyncio.sleep(0.01)
            await asyncio.sleep(fault.delay_seconds)
            self._happened.append(Done(time.time(), fault, self._do(fault)))
            self.kills += fault.kind == "kill"
        self.answers.released = self.messages + len(NODES)

    def _do(self, fault: Fault) -> int:
        match fault.kind:
            case "kill":
                return sum(map(self._kill, fault.targets))
            case "stop":
                pids = [pid for pid in map(self._pid, fault.targets) if pid is not None]
                self._later(self._halt(pids, fault.seconds))
                return len(pids)
        for link in (self._links[name] for name in fault.targets):
            match fault.kind:
                case "cut":
                    link.cut()
                case "stall":
                    self._later(link.stall(fault.seconds))
                case "half open":
                    far_first = fault.after % 2 == 0
                    self._later(link.half_open(fault.seconds, far_first=far_first))
        return 0

    def _kill(self, name: str) -> bool:
        if name in self._programs:
            return self._programs[name].kill()
        pid = self._pid(name)
        return pid is not None and send(pid, signal.SIGKILL)

    def _pid(self, name: str) -> int | None:
        if name == "mosquitto":
            return mosquitto_of(self._house.data_dir)
        if name == "delivery":
            return delivery_of(self._house.data_dir)
        if name == "proxy":
            return proxy_of(self._house.data_dir)
        return self._programs[name].pid

    async def _halt(self, pids: list[int], seconds: float) -> None:
        for pid in pids:
            send(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        for pid in pids:
            send(pid, signal.SIGCONT)

    def _later(self, pause: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(pause)
        self._pauses.add(task)
        task.add_done_callback(self._pauses.discard)

    # ------------------------------------------------------------------ at the end

    async def _drain(self) -> None:
        """Have each node send a last message until its receipt: all before it has come then."""
        port = self._links["devices"].port
        last = [
            Device(self._seed, node, "receipt", iter([self.messages + index]), self.answers, port)
            for index, node in enumerate(NODES)
        ]
        try:
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                await asyncio.gather(*(device.run() for device in last))
                before, since = -1, 0.0
                while True:
                    received, backlog = await asyncio.to_thread(self._counts)
                    if received != before:
                        before, since = received, time.monotonic()
                    if backlog == 0 and time.monotonic() - since > STILL_SECONDS:
                        return
                    await asyncio.sleep(0.2)
        except TimeoutError:
            self._problems.append(f"was not drained after {DRAIN_SECONDS_MAX:.0f} s")

    async def _keys(self) -> list[bytes]:
        tables = " UNION ALL ".join(f"SELECT key FROM echo.{name}" for name in COLUMNS)  # noqa: S608
        return [key for (key,) in await self._postgres.rows(DATABASE, tables)]

    def _counts(self) -> tuple[int, int]:
        with contextlib.suppress(JournalUnusable, apsw.Error):
            reader = JournalReader(self._house.data_dir / "journal.db")
            try:
                ledger = reader.ledger()
            finally:
                reader.close()
            return ledger.received, sum(sink.backlog for sink in ledger.sinks.values())
        return -1, -1
