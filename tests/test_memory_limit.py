"""With the memory that the manifest gives, no message ends a process, whatever a device sends.

The service runs in a control group, so that the kernel ends a process if all of them need more. In
the first test the broker runs elsewhere and lets everything through: that is harder for us, since a
broker of ours has limits of its own. In the others it has to live within the same limit.
"""

import base64
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from echo_ingest.broker.node_accounts import NodeAccount, change_nodes, new_password, now
from echo_ingest.record import PROPERTIES_BYTES_MAX
from tests import cgroup
from tests.api import Api
from tests.cgroup import MemoryGroup
from tests.harness import Device, Harness, children, eventually, free_port
from tests.server import Server
from tests.test_memory import EMPTY_PROPERTY, OWL, STATUS, property_of
from tests.test_mqtt import variable

pytestmark = pytest.mark.slow

MANIFEST = Path(__file__).parents[1] / "deploy/kubernetes/base/statefulset.yaml"
MIB = 1024 * 1024
PAYLOAD_BYTES_MAX = 48 * MIB
"""The default of IOT_PAYLOAD_BYTES_MAX."""
PACKET_BYTES_MAX = 128 * MIB
"""What the broker elsewhere lets through."""
TOPIC = "iotingestion/evil"
ANSWER_SECONDS_MAX = 15.0
MODULES = {"web": "echo_ingest.web", "delivery": "echo_ingest.pipeline.deliver"}
TOO_LARGE = "the message has"
CUT = "the MQTT properties"


def limit_of_manifest() -> int:
    """Return how much memory the container gets in which everything runs."""
    manifest = yaml.safe_load(MANIFEST.read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    limit = re.fullmatch(r"(\d+)Gi", container["resources"]["limits"]["memory"])
    assert limit is not None
    return int(limit[1]) * 1024 * MIB


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    if (why := cgroup.missing()) is not None:
        pytest.skip(why)
    with MemoryGroup("service", limit_of_manifest()) as group:
        yield group


@pytest.fixture
def harness(tmp_path: Path, mosquitto: Path, group: MemoryGroup) -> Iterator[Harness]:
    """Return a site with two sinks; all that it starts is in the group once `guarded` has it."""
    (tmp_path / "clips").mkdir()
    api = Api()
    api.start(nodes=["ridge-01"])  # of whom the statuses speak
    harness = Harness(
        tmp_path / "data",
        mosquitto=mosquitto,
        IOT_API_URL=api.url,
        IOT_OBJECTS_URL=(tmp_path / "clips").as_uri(),
    )
    yield harness
    harness.close()
    api.stop()


# ---------------------------------------------------------------------- what is sent


class Messages:
    """Makes messages of which no two are the same."""

    def __init__(self) -> None:
        self._number = 0
        self._noise = os.urandom(MIB)

    def status(self) -> bytes:
        self._number += 1
        return STATUS % self._number

    def wav(self, size: int) -> bytes:
        self._number += 1
        samples = self._number.to_bytes(4) + self._noise * (size // MIB + 1)
        samples = samples[: size - 44]
        return (
            b"RIFF" + (36 + len(samples)).to_bytes(4, "little") + b"WAVEfmt "
            + bytes.fromhex("10000000 0100 0100 803e0000 007d0000 0200 1000")
            + b"data" + len(samples).to_bytes(4, "little") + samples
        )  # fmt: skip

    def json(self, size: int) -> bytes:
        clip = base64.b64encode(self.wav(size // 4 * 3 - 300))
        return b'{"sensorId": "evil", "id": "clip%d", "audio_file": "%s"}' % (self._number, clip)


def packet(payload: bytes, properties: bytes = b"", topic: str = TOPIC) -> bytes:
    """Return a PUBLISH at QoS 1, as the codec would not write it."""
    name = topic.encode()
    head = len(name).to_bytes(2) + name + b"\0\1" + variable(len(properties)) + properties
    return b"".join((b"\x32", variable(len(head) + len(payload)), head, payload))


def records(messages: Messages) -> Iterator[bytes]:
    """Yield what keeps within the limits of a message, and is much in number, size or kind."""
    for _ in range(6):
        yield packet(messages.wav(10_000_000))
        yield packet(messages.json(10_000_000))
    for _ in range(100):
        yield packet(messages.status(), EMPTY_PROPERTY * 12_000)
        yield packet(messages.status(), property_of(60_000))
        yield packet(messages.status(), b"\x09\xea\x60" + b"c" * 60_000)
    for _ in range(2):
        yield packet(messages.wav(PAYLOAD_BYTES_MAX))
        yield packet(messages.json(PAYLOAD_BYTES_MAX))
        yield packet(b" " * (PAYLOAD_BYTES_MAX - 200) + messages.status())


def nonsense() -> Iterator[bytes]:
    """Yield what is no record and costs a lot to find that out, as large as a message may be."""
    for number in range(200):
        yield packet(b"{}", topic=f"{TOPIC}/{number}/" + "a" * 60_000 + OWL)
    size = PAYLOAD_BYTES_MAX - 200
    yield packet(b"[" * size)
    yield packet(b'{"a":[' + b"1," * (size // 2) + b"1]}")
    yield packet(b'{"audio_file":"' + b"\\u0041" * (size // 6) + b'"}')
    yield packet(b'{"x":"' + OWL.encode() * (size // 4) + b'"}')


def bombs(messages: Messages) -> Iterator[bytes]:
    """Yield properties of which each takes eighty bytes and more, once it is an object."""
    for count in (8_000_000, 4_000_000, 1_000_000, PROPERTIES_BYTES_MAX // 5 + 1):
        for _ in range(2):
            yield packet(messages.status(), EMPTY_PROPERTY * count)


def send(
    device: Device, packets: Iterable[bytes], wait_for: Callable[[int], None] = lambda _count: None
) -> int:
    """Send one after the other, each once the last is acknowledged; return how many there were.

    After a large one it waits for the service.
    """
    count = 0
    for each in packets:
        assert device.send(each) == 0
        count += 1
        if len(each) > MIB:
            wait_for(count)
    return count


# ---------------------------------------------------------------------- how it is watched


class Guarded:
    """A service in a group: its processes must be the same at the end."""

    def __init__(self, harness: Harness, command: str, group: MemoryGroup) -> None:
        self._harness, self._group = harness, group
        harness.before_commands = group.enter
        self._program = harness.start(command)
        eventually(self.is_healthy, seconds=60)
        self._pids = eventually(self._processes)
        assert set(group.pids) >= set(self._pids.values())

    def is_healthy(self) -> bool:
        return self._harness.http("/healthz")[0] == 200

    def answers(self) -> None:
        """Check that the line and the web process answer."""
        began_at = time.monotonic()
        assert self._harness.http("/livez")[0] == 200
        assert time.monotonic() - began_at < ANSWER_SECONDS_MAX

    def receives(self, count: int) -> None:
        """Wait until the journal has this many messages, and no more."""
        eventually(lambda: self._ledger()["received"] >= count, seconds=300)
        assert self._ledger()["received"] == count
        self.answers()

    def delivers(self) -> dict[str, Any]:
        """Wait until each sink has everything; return the ledger."""
        eventually(
            lambda: all(sink["backlog"] == 0 for sink in self._ledger()["sinks"].values()),
            seconds=600,
        )
        self.answers()
        return self._ledger()

    def check(self) -> None:
        """Check that nothing was ended, and print what each process has needed at most."""
        print("\nMiB at most:", {name: peak_mib(pid) for name, pid in self._pids.items()})
        assert self._group.oom_kills == 0
        assert self._processes() == self._pids

    def _ledger(self) -> dict[str, Any]:
        return self._harness.ledger_now()

    def _processes(self) -> dict[str, int]:
        pids = {name: children(self._program.pid, module) for name, module in MODULES.items()}
        pids |= {"mosquitto": children(self._program.pid, "mosquitto")}
        assert pids["web"] and pids["delivery"]
        return {
            "service": self._program.pid,
            **{name: each[0] for name, each in pids.items() if each},
        }


def peak_mib(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


def pause(harness: Harness, *, resume: bool = False) -> None:
    for name in ("objects", "echo_api"):
        done = harness.cli("sinks", "resume" if resume else "pause", name)
        assert done.returncode == 0, done.stderr


def assert_everything_is_somewhere(harness: Harness, ledger: dict[str, Any], rejected: int) -> None:
    """Check that it was delivered, or parked for a reason that only the sink has."""
    assert ledger["dead_letters"] == rejected
    assert ledger["duplicates"] == 0
    objects, echo_api = ledger["sinks"]["objects"], ledger["sinks"]["echo_api"]
    assert objects["parked"] == 0
    reasons = {row["reason"] for row in harness.http("/api/parked?limit=500")[1]["parked"]}
    assert all("takes clips of at most" in reason for reason in reasons), reasons
    assert echo_api["delivered"] + echo_api["parked"] == ledger["stored"]


@pytest.mark.proof
@pytest.mark.parametrize("mosquitto", ["installed"], indirect=True)  # it is none of ours
def test_a_broker_that_lets_everything_through_ends_nothing_of_ours(
    harness: Harness, group: MemoryGroup, mosquitto: Path, tmp_path: Path
) -> None:
    port = free_port()
    (tmp_path / "elsewhere.conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
        f"max_packet_size {PACKET_BYTES_MAX}\nuser root\n"
    )
    elsewhere = Server(
        [str(mosquitto), "-c", str(tmp_path / "elsewhere.conf")],
        lambda: not Device(port, None).refused,
        log=tmp_path / "elsewhere.log",
    )
    elsewhere.start()
    try:
        harness.settings["IOT_ENDPOINT"] = f"mqtt://127.0.0.1:{port}"
        service, messages, device = Guarded(harness, "run", group), Messages(), Device(port, None)
        pause(harness)
        sent = send(device, records(messages))
        service.receives(sent)
        cut = send(device, bombs(messages))
        service.receives(sent + cut)
        rejected = cut + send(device, nonsense())
        rejected += send(device, [packet(messages.wav(100_000_000))])
        service.receives(sent + rejected)
        reasons = [each["reason"] for each in dead_letters(harness)]
        assert sum(reason.startswith(CUT) for reason in reasons) == cut
        assert sum(reason.startswith(TOO_LARGE) for reason in reasons) == 1
        pause(harness, resume=True)
        ledger = service.delivers()
        service.check()
        assert_everything_is_somewhere(harness, ledger, rejected)
    finally:
        harness.close()
        elsewhere.kill()


def dead_letters(harness: Harness) -> list[dict[str, Any]]:
    letters: list[dict[str, Any]] = []
    page: dict[str, Any] = {"next": 0}
    while page["next"] is not None:
        page = harness.http(f"/api/dead-letters?limit=500&after={page['next']}")[1]
        letters += page["dead_letters"]
    return letters


def node_login(harness: Harness) -> tuple[str, str]:
    """Give a node an account of its own; return its user and password."""
    password, hashed = new_password()
    account = NodeAccount("evil", now(), hashed)
    harness.data_dir.mkdir(mode=0o700)
    change_nodes(harness.data_dir / "nodes.jsonl", lambda nodes: nodes.update(evil=account))
    return "evil", password


@pytest.mark.proof
@pytest.mark.parametrize("mosquitto", ["installed"], indirect=True)  # it takes more than 2.1
def test_with_the_broker_in_the_same_limit_nothing_is_ended_either(
    harness: Harness, group: MemoryGroup
) -> None:
    """At the pace of the service: what it has not taken yet is in the memory of the broker."""
    user, password = node_login(harness)
    service, messages = Guarded(harness, "up", group), Messages()
    pause(harness)
    node = Device(harness.mqtt_port, user, password)
    sent = send(node, records(messages), service.receives)
    service.receives(sent)
    rejected = send(
        Device(harness.mqtt_port), nonsense(), lambda count: service.receives(sent + count)
    )
    service.receives(sent + rejected)
    pause(harness, resume=True)
    ledger = service.delivers()
    service.check()
    assert_everything_is_somewhere(harness, ledger, rejected)


def test_property_bombs_do_not_reach_a_broker_of_ours(harness: Harness, group: MemoryGroup) -> None:
    user, password = node_login(harness)
    service, messages = Guarded(harness, "up", group), Messages()
    for login in ((user, password), ("echopub",)):
        for bomb in bombs(messages):
            assert Device(harness.mqtt_port, *login).send(bomb) != 0
            service.answers()
    good = Device(harness.mqtt_port)
    sent = send(good, [packet(messages.status()) for _ in range(10)])
    service.receives(sent)
    service.delivers()
    service.check()
