"""The broker's memory has a limit: devices are held back before it is full, and go on later."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from echo_ingest import metrics
from echo_ingest.process.memory import memory_bytes, resident_bytes
from echo_ingest.proxy import broker_memory
from echo_ingest.proxy.broker_memory import BrokerMemory
from echo_ingest.proxy.gate import Gate
from echo_ingest.proxy.packets import PacketWalker
from tests import cgroup
from tests.cgroup import MemoryGroup
from tests.harness import Device, Harness, eventually, free_port
from tests.proxy_site import ACCOUNT, PAYLOAD_BYTES_MAX, ProxySite
from tests.test_proxy import connect_packet, publish

MB = 1024 * 1024
FEW = {metrics.BROKER_HELD_MESSAGES: 53.0, metrics.BROKER_HELD_BYTES: 300.0}
HOLDER = """
import sys
held = []
print(flush=True)
for line in sys.stdin:
    held[:] = [b"x" * 2**20 for _ in range(int(line))]
    print(flush=True)
"""
PIECE = 65_536
COPIED_MB_MAX = 20
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072"}
TOPIC = "iotingestion/evil"
CUT = b"\xe0\x01\x97"
"""DISCONNECT with "quota exceeded"."""


# ---------------------------------------------------------------------- how much there is


def test_the_smallest_limit_of_all_control_groups_counts(tmp_path: Path) -> None:
    machine = memory_bytes(tmp_path)
    assert machine == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    proc = tmp_path / "proc/self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text("5:cpu,memory:/pods/one\n3:cpuset:/\n0::/system/unit\n")
    old, new = tmp_path / "sys/fs/cgroup/memory", tmp_path / "sys/fs/cgroup"
    for folder, name, text in (
        (old, "memory.limit_in_bytes", "9223372036854771712\n"),
        (old / "pods/one", "memory.limit_in_bytes", "300000\n"),
        (new / "system", "memory.max", "200000\n"),
        (new / "system/unit", "memory.max", "max\n"),
        (new / "other", "memory.max", "1000\n"),
        (tmp_path, "memory.max", "1000\n"),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    assert memory_bytes(tmp_path) == 200_000
    (new / "system/memory.max").unlink()
    assert memory_bytes(tmp_path) == 300_000
    # In a container of version 1, the group that is named cannot be seen: its limit is at the top.
    (old / "pods/one/memory.limit_in_bytes").unlink()
    (old / "memory.limit_in_bytes").write_text("400000\n")
    assert memory_bytes(tmp_path) == 400_000


class Holder:
    """A process that holds as much memory as it is told."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **GIVES_BACK},
            text=True,
        )
        self.pid = self._process.pid
        self._answer()
        self._empty_bytes = resident_bytes(self.pid) or 0

    def hold(self, size_mb: int) -> None:
        """Hold so much in all."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{size_mb - self._empty_bytes // MB}\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline()

    def close(self) -> None:
        self._process.communicate(timeout=20)


@pytest.fixture
def holder() -> Iterator[Holder]:
    with contextlib.closing(Holder()) as holder:
        yield holder


def test_memory_that_a_process_gave_back_is_not_counted(holder: Holder) -> None:
    for size_mb in (50, 100, 40):
        holder.hold(size_mb)
        taken = resident_bytes(holder.pid)
        assert taken is not None
        assert size_mb * MB * 0.95 < taken < size_mb * MB * 1.1
    assert resident_bytes(2**22 + 1) is None


# ---------------------------------------------------------------------- what is decided


class Publishing:
    """A device in the middle of a message of 48 MB."""

    def __init__(self, memory: BrokerMemory, gate: Gate) -> None:
        self.words: str | None = None
        self._memory, self._gate = memory, gate
        self._walker = PacketWalker(5, PAYLOAD_BYTES_MAX)
        self._stream = publish(bytes(48 * MB))
        self._sent = 0

    def send(self, size: int) -> None:
        piece = self._stream[self._sent : self._sent + size]
        self._sent += size
        self._memory.note(self, self._walker.feed(piece), self._walker)

    def cut(self, words: str) -> None:
        self.words = words
        self._memory.forget(self)


@contextlib.asynccontextmanager
async def watched(
    holder: Holder, values: dict[str, float]
) -> AsyncIterator[tuple[Gate, BrokerMemory]]:
    """Watch a process that may take 100 MB; from 70 MB on, the gate closes."""
    gate = Gate()
    memory = BrokerMemory(gate, 100 * MB, COPIED_MB_MAX * MB, holder.pid, lambda: values)
    running = asyncio.create_task(memory.run())
    try:
        yield gate, memory
    finally:
        running.cancel()


async def soon(state: str, gate: Gate) -> None:
    """Wait until the gate is in a state."""
    async with asyncio.timeout(5):
        while state != ("open" if gate.is_open else "shut" if gate.is_shut else "closed"):
            await asyncio.sleep(0.01)


async def test_the_gate_follows_the_memory_that_is_taken(holder: Holder) -> None:
    values: dict[str, float] = {}
    async with watched(holder, values) as (gate, _):
        for size_mb, state in ((60, "open"), (80, "closed"), (110, "shut"), (80, "closed")):
            holder.hold(size_mb)
            await soon(state, gate)
        # What mosquitto holds is too little to fill it: the rest of it is free inside.
        values |= FEW
        await soon("open", gate)
        holder.hold(110)
        await asyncio.sleep(0.3)
        await soon("open", gate)
        values[metrics.BROKER_HELD_BYTES] = 36.0 * MB  # of each there is a copy
        await soon("closed", gate)
        values[metrics.BROKER_HELD_BYTES] = 51.0 * MB
        await soon("shut", gate)
        values |= FEW
        await soon("open", gate)
        values[metrics.BROKER_HELD_MESSAGES] = 80_000.0
        await soon("closed", gate)


async def test_what_is_on_its_way_counts_before_it_has_arrived(holder: Holder) -> None:
    holder.hold(60)
    async with watched(holder, {}) as (gate, memory):
        device = Publishing(memory, gate)
        await asyncio.sleep(0.15)
        device.send(5 * MB)
        assert gate.is_open
        device.send(8 * MB)
        assert not gate.is_open
        device.send(30 * MB)
        assert gate.is_shut
        await soon("open", gate)  # it never came, and is forgotten
        walker = PacketWalker(5, PAYLOAD_BYTES_MAX)
        messages = publish(b"", properties=b"\x26\0\0\0\0" * 1_000) * 150
        memory.note(device, walker.feed(messages), walker)
        assert not gate.is_open  # 750 kB, which become 19 MB of objects


async def test_properties_of_messages_that_wait_count(holder: Holder) -> None:
    holder.hold(80)
    values = {metrics.BROKER_HELD_MESSAGES: 700.0, metrics.BROKER_HELD_BYTES: 5_000.0}
    async with watched(holder, values) as (gate, memory):
        await soon("open", gate)
        walker = PacketWalker(5, PAYLOAD_BYTES_MAX)
        message = publish(b"", properties=b"\x26\0\0\0\0" * 1_000)
        memory.note(Publishing(memory, gate), walker.feed(message), walker)
        await soon("closed", gate)  # each of the 700 may have as many
        values[metrics.BROKER_HEAP_BYTES] = 60.0 * MB
        await soon("open", gate)  # but they have not
        values[metrics.BROKER_HEAP_BYTES] = 400.0 * MB  # 2.0 says more and more in time
        await soon("closed", gate)
        values |= FEW
        await soon("open", gate)


async def test_what_is_yet_to_be_copied_for_a_reader_that_is_away_counts(holder: Holder) -> None:
    holder.hold(50)
    values = {metrics.BROKER_HELD_MESSAGES: 700.0, metrics.BROKER_HELD_BYTES: 79.0 * MB}
    async with watched(holder, values) as (gate, _):
        await asyncio.sleep(0.3)
        assert gate.is_open
        values[metrics.BROKER_HELD_BYTES] = 81.0 * MB
        await soon("closed", gate)


async def test_what_may_stay_for_days_holds_devices_back_for_seconds(
    holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_memory, "SECONDS_CLOSED_MAX", 0.5)
    holder.hold(80)
    values = {metrics.BROKER_HELD_MESSAGES: 700.0, metrics.BROKER_HELD_BYTES: 70.0 * MB}
    async with watched(holder, values) as (gate, _):
        await soon("closed", gate)  # more than 70 MB
        await soon("open", gate)  # less than 85 MB
        limit = metrics.PROXY.get_sample_value("echo_ingest_broker_memory_limit_bytes")
        assert limit == 85 * MB
        holder.hold(90)
        await soon("closed", gate)
        await asyncio.sleep(1)
        assert not gate.is_open
        holder.hold(105)
        await soon("shut", gate)
        await asyncio.sleep(1)
        assert gate.is_shut
        holder.hold(80)
        await soon("open", gate)
        values |= FEW
        await asyncio.sleep(0.3)
        values |= {metrics.BROKER_HELD_MESSAGES: 700.0, metrics.BROKER_HELD_BYTES: 70.0 * MB}
        await soon("closed", gate)  # more than 70 MB


async def test_the_slowest_of_the_large_ones_is_cut(holder: Holder) -> None:
    holder.hold(60)
    async with watched(holder, dict(FEW)) as (gate, memory):
        steady, stalled, small = (Publishing(memory, gate) for _ in range(3))
        stalled.send(20 * MB)
        small.send(1 * MB)
        for _ in range(25):
            await asyncio.sleep(0.1)
            steady.send(MB)
        await soon("open", gate)
        holder.hold(115)
        await soon("shut", gate)
        async with asyncio.timeout(5):
            while stalled.words is None:
                await asyncio.sleep(0.01)
        assert stalled.words.endswith("its unfinished message held 20,971,520 bytes")
        assert (steady.words, small.words) == (None, None)
        holder.hold(95)
        # what is left, 26 MB, is not what fills it
        await soon("open", gate)


@pytest.mark.slow
async def test_who_is_quiet_while_others_wait_is_cut_first_and_then_all(holder: Holder) -> None:
    holder.hold(60)
    values = {metrics.BROKER_HELD_MESSAGES: 53.0, metrics.BROKER_HELD_BYTES: 20.0 * MB}
    cut_before = metrics.DEVICES_CUT._value.get()
    with capture_logs() as lines:
        async with watched(holder, values) as (gate, memory):
            steady, quiet = Publishing(memory, gate), Publishing(memory, gate)
            quiet.send(5 * MB)
            steady.send(40 * MB)
            holder.hold(80)
            began = time.monotonic()
            cut_after: dict[str, float] = {}
            async with asyncio.timeout(20):
                while len(cut_after) < 2:
                    await asyncio.sleep(0.05)
                    if steady.words is None:
                        steady.send(1)
                    for name, each in (("quiet", quiet), ("steady", steady)):
                        if each.words is not None:
                            cut_after.setdefault(name, time.monotonic() - began)
            assert 2 < cut_after["quiet"] < 6
            assert 9 < cut_after["steady"] < 13
            await soon("open", gate)
            async with asyncio.timeout(5):
                while len([each for each in lines if each["event"] == "devices go on"]) < 1:
                    await asyncio.sleep(0.05)
    told = [each["event"] for each in lines]
    assert told == ["devices held back", "devices go on"]
    assert (lines[0]["limit_bytes"], lines[0]["log_level"]) == (70 * MB, "warning")
    assert metrics.DEVICES_CUT._value.get() == cut_before + 2


# ---------------------------------------------------------------------- in front of mosquitto


class HalfSender(threading.Thread):
    """Sends a message up to its last kilobyte, as fast as it is taken."""

    def __init__(self, port: int, size: int) -> None:
        super().__init__(daemon=True)
        self._message = publish(bytes(size), topic=TOPIC)[:-1_000]
        self._stream = socket.create_connection(("127.0.0.1", port), 60)
        self._stream.sendall(connect_packet(account=ACCOUNT))
        self._stream.recv(100)
        self.answer: bytes | None = None
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.sendall(self._message)
            self.answer = self._stream.recv(100)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
        self.join(20)
        self._stream.close()


def put(site_port: int, payload: bytes = b"{}") -> float:
    """Publish as a good device does; return how long it took."""
    began = time.monotonic()
    with contextlib.closing(Device(site_port)) as device:
        assert device.put("iotingestion/good", payload) in (0, 0x10)
    return time.monotonic() - began


@pytest.mark.slow
def test_unfinished_messages_do_not_fill_the_broker(tmp_path: Path, mosquitto: Path) -> None:
    limit = 160 * MB
    with contextlib.closing(ProxySite(tmp_path, mosquitto, broker_bytes_max=limit)) as site:
        taken = []
        attackers = [HalfSender(site.mqtt_port, 40 * MB) for _ in range(12)]
        took = []
        began = time.monotonic()
        while time.monotonic() - began < 20 or not site.events("devices go on"):
            taken.append(resident_bytes(site.broker.pid) or 0)
            took.append(put(site.mqtt_port))
            assert time.monotonic() - began < 60
        assert max(taken) < limit + 30 * MB
        assert max(took) < 15
        answers = Counter(each.answer for each in attackers)
        assert answers[CUT] >= 12 - limit // (40 * MB)
        cut = [each for each in site.events("device disconnected") if "memory" in each["reason"]]
        assert len(cut) == site.metric("echo_ingest_devices_cut_total") >= answers[CUT]
        assert (cut[0]["user"], cut[0]["address"]) == (ACCOUNT.user, "127.0.0.1")
        (held_back, *_) = site.events("devices held back")
        assert held_back["unfinished_bytes"] > 50 * MB
        assert site.metric("echo_ingest_devices_held_back_seconds_total") > 1
        eventually(lambda: site.metric("echo_ingest_devices_held_back") == 0)
        for each in attackers:
            each.close()
        eventually(lambda: site.metric("echo_ingest_broker_memory_bytes") < 30 * MB)
        assert put(site.mqtt_port, bytes(PAYLOAD_BYTES_MAX)) < 15
        assert not site.events("fault in the proxy")


# ---------------------------------------------------------------------- under the limits we ship


@pytest.fixture
def group(request: pytest.FixtureRequest) -> Iterator[MemoryGroup]:
    if (why := cgroup.missing()) is not None:
        pytest.skip(why)
    with MemoryGroup("memory", request.param) as group:
        yield group


async def send_half(port: int, size: int) -> None:
    """Hold a message that lacks its last bytes, until cancelled or closed."""
    message = publish(bytes(size), topic=TOPIC)
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(connect_packet(account=ACCOUNT))
            await reader.readexactly(5)
            for start in range(0, size - 1_000, PIECE):
                writer.write(message[start : min(start + PIECE, size - 1_000)])
                await writer.drain()
            await reader.read(1)
        finally:
            writer.transport.abort()


@pytest.mark.slow
@pytest.mark.parametrize("group", [512 * MB], indirect=True)
async def test_half_sent_messages_end_no_process_and_lose_nothing(
    tmp_path: Path, mosquitto: Path, group: MemoryGroup
) -> None:
    harness = Harness(tmp_path / "data", mosquitto=mosquitto)
    harness.before_commands = group.enter
    try:
        program = await asyncio.to_thread(harness.up)
        broker = harness.broker_pid(program)
        attackers = [
            asyncio.create_task(send_half(harness.mqtt_port, size))
            for size in [40 * MB] * 20 + [100_000] * 1_000
        ]
        good = 0
        async with asyncio.timeout(90):
            while good < 20:
                payload = b'{"status":"online","id":"%d"}' % good
                assert await asyncio.to_thread(put, harness.mqtt_port, payload) < 20
                good += 1
        for each in attackers:
            each.cancel()
        assert harness.broker_pid(program) == broker
        assert group.oom_kills == 0
        await asyncio.to_thread(eventually, lambda: harness.ledger_now()["stored"] == good)
    finally:
        await asyncio.to_thread(harness.close)


@pytest.mark.slow
@pytest.mark.parametrize("group", [320 * MB], indirect=True)
def test_while_ingestion_is_away_devices_keep_what_does_not_fit(
    tmp_path: Path, mosquitto: Path, group: MemoryGroup
) -> None:
    service_port = str(free_port())
    broker = Harness(
        tmp_path / "broker",
        mosquitto=mosquitto,
        IOT_SERVICE_PORT=service_port,
        IOT_SERVICE_PASSWORD="service-for-tests",
        IOT_BROKER_HTTP="true",
    )
    broker.before_commands = group.enter
    ingestion = Harness(
        tmp_path / "data",
        IOT_ENDPOINT=f"mqtt://127.0.0.1:{service_port}",
        IOT_USER="echo-ingest",
        IOT_PASSWORD="service-for-tests",
    )
    noise = os.urandom(MB)
    acknowledged = [0] * 5

    def publish_all(number: int) -> None:
        def note(count: int) -> None:
            acknowledged[number] = count

        device = Device(broker.mqtt_port)
        messages = [(TOPIC, b"%d/%d " % (number, each) + noise) for each in range(60)]
        device.publish(messages, window=5, on_acknowledged=note)
        device.close()

    try:
        broker.wait_healthy(broker.start("broker"))
        run = ingestion.start("run")
        ingestion.wait_healthy(run)
        ingestion.stop(run)
        devices = [threading.Thread(target=publish_all, args=(each,)) for each in range(5)]
        for each in devices:
            each.start()
        eventually(lambda: "devices held back" in broker.log("broker"), seconds=60)
        held_at = sum(acknowledged)
        assert 40 < held_at < 200
        with pytest.raises(AssertionError):
            eventually(lambda: sum(acknowledged) > held_at + 10, seconds=8)
        ingestion.wait_healthy(ingestion.start("run"))
        for each in devices:
            each.join(90)
        assert sum(acknowledged) == 300
        eventually(lambda: ingestion.ledger_now()["received"] >= 300)
        ledger = ingestion.ledger_now()
        assert ledger["dead_letters"] == 300
        eventually(lambda: "devices go on" in broker.log("broker"))
        assert group.oom_kills == 0
    finally:
        ingestion.close()
        broker.close()
