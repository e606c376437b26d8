"""An Echo API that is gone or has random faults: memory stays flat, nothing is lost or doubled.

`make outage MESSAGES=1000000 SEED=7` is the long run; each test prints a line of figures.
"""

import json
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

from tests.harness import Device, Harness, eventually, free_port
from tests.watched_api import STORED_BUT_NOT_SAID, Trouble, WatchedApi

pytestmark = pytest.mark.slow

MESSAGES = int(os.environ.get("MESSAGES", "30000"))
SEED = int(os.environ.get("SEED", "1"))
ROUNDS = max(1, MESSAGES // 50_000)
ROUND_MESSAGES = 1_000
DAY_SECONDS = 86_400
MORNING = 1_795_000_000
WARM_UP = 3_000
SLICE = 5_000
NODES = 12
DEVICES = 2
GROWTH_BYTES_MAX = 64 * 1_048_576
"""Above a warm service: what waits for its acknowledgement, at most 20,000, and caches."""
LATE_GROWTH_BYTES_MAX = 16 * 1_048_576
"""In the second half of the outage and while it is caught up: by then all that has been filled."""
FIRST_LATENCY_SECONDS = 0.02
REFUSED_SPECIES = "Canis lupus dingo"
TROUBLES: tuple[Trouble, ...] = (
    *("slow", "cut", "reset", "truncate", "page", "move", 429, 500, 502, 503),
)
"""Failures of the world, none of which is a reason to park a record."""
RETRY_AFTER_SECONDS = 1


@pytest.fixture
def api() -> Iterator[WatchedApi]:
    api = WatchedApi(
        nodes=["known"], refuse_species=REFUSED_SPECIES, retry_after=str(RETRY_AFTER_SECONDS)
    )
    yield api
    api.end()


@pytest.fixture
def api_port() -> int:
    return free_port()


@pytest.fixture
def harness(tmp_path: Path, api_port: int) -> Iterator[Harness]:
    harness = Harness(tmp_path / "data", IOT_API_URL=f"http://127.0.0.1:{api_port}")
    yield harness
    harness.close()


def detection(number: int, species: str = "Litoria ewingii") -> tuple[str, bytes]:
    """Return one of a day's detections, which are spread evenly over the day."""
    fields = {
        "type": "prediction",
        "timestamp": str(MORNING + number * DAY_SECONDS // max(MESSAGES, DAY_SECONDS)),
        "sensor_id": f"n{number}",
        "species": species,
        "confidence": 63.64,
        "gps_data": {"lat": -38.7712, "lon": 143.5021},
    }
    return f"iotingestion/ridge-{number % NODES:02}", json.dumps(fields).encode()


def heartbeat(number: int, node: str) -> tuple[str, bytes]:
    fields = {"nodeId": node, "status": f"online n{number}", "timestamp": MORNING + number}
    return f"iotingestion/{node}", json.dumps(fields).encode()


def sink(harness: Harness) -> dict[str, Any]:
    """Return the sink's counts as HTTP reports them; the journal itself is asked at the end."""
    figures: dict[str, Any] = harness.ledger_now()["sinks"]["echo_api"]
    return figures


def metric(harness: Harness, series: str) -> float:
    lines = harness.http_bytes("/metrics").decode().splitlines()
    return float(next(line for line in lines if line.startswith(series)).rpartition(" ")[2])


def names_in_journal_order(harness: Harness) -> list[str]:
    db = apsw.Connection(str(harness.data_dir / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    rows = db.execute("SELECT payload ->> 'sensor_id' FROM record ORDER BY offset").fetchall()
    return [str(name) for (name,) in rows]


class Memory:
    """Samples what some processes have in memory together, until it is closed."""

    def __init__(self, *pids: int) -> None:
        self._files = [Path(f"/proc/{pid}/statm") for pid in pids]
        self.start_bytes = self.most_bytes = self._now()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._done.set()
        self._thread.join(10)

    @property
    def growth_bytes(self) -> int:
        return self.most_bytes - self.start_bytes

    def _now(self) -> int:
        pages = sum(int(file.read_text().split()[1]) for file in self._files)
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _sample(self) -> None:
        while not self._done.wait(0.1):
            self.most_bytes = max(self.most_bytes, self._now())


def publish(harness: Harness, numbers: range) -> None:
    """Publish from several devices at once; return when all messages are acknowledged."""

    def be_a_device(share: range) -> None:
        device = Device(harness.mqtt_port)
        for first in range(0, len(share), SLICE):
            device.publish([detection(number) for number in share[first : first + SLICE]])
        device.close()

    devices = [
        threading.Thread(target=be_a_device, args=(numbers[first::DEVICES],))
        for first in range(DEVICES)
    ]
    for device in devices:
        device.start()
    for device in devices:
        device.join()


@pytest.mark.proof
def test_an_api_that_is_gone_for_a_day_costs_no_memory_and_is_caught_up_in_order(
    harness: Harness, api: WatchedApi, api_port: int
) -> None:
    program = harness.up()
    publish(harness, range(WARM_UP))
    eventually(lambda: sink(harness)["backlog"] == WARM_UP)
    memory = Memory(program.pid, harness.delivery_pid(program))
    started = time.monotonic()
    half = (WARM_UP + MESSAGES) // 2
    publish(harness, range(WARM_UP, half))
    eventually(lambda: sink(harness)["backlog"] == half, seconds=120)
    half_bytes = memory.growth_bytes
    publish(harness, range(half, MESSAGES))
    eventually(lambda: sink(harness)["backlog"] == MESSAGES, seconds=120)
    seconds_in = time.monotonic() - started
    outage_bytes = memory.growth_bytes
    eventually(lambda: metric(harness, 'echo_ingest_sink_backlog_records{sink="echo') == MESSAGES)
    assert metric(harness, 'echo_ingest_sink_unavailable{sink="echo') > 0
    assert harness.http("/healthz")[0] == 200  # records wait; we are well

    api.latency_seconds = FIRST_LATENCY_SECONDS
    api.listen(api_port)
    eventually(lambda: api.calls, seconds=90)  # a minute at most between two attempts
    returned = api.calls[0].at_seconds
    eventually(lambda: time.monotonic() > returned + 1)
    first_second = [call for call in api.calls if call.at_seconds < returned + 1]
    assert len(first_second) <= 1 / FIRST_LATENCY_SECONDS + 1, "flooded"
    api.latency_seconds = 0.0
    eventually(lambda: sink(harness)["backlog"] == 0, seconds=60 + MESSAGES / 500)
    drained_seconds = time.monotonic() - returned
    memory.close()
    print(
        f"\noutage: messages={MESSAGES} in_seconds={seconds_in:.0f}"
        f" drain_seconds={drained_seconds:.0f} drained_per_second={MESSAGES / drained_seconds:.0f}"
        f" calls={len(api.calls)} calls_at_once={api.at_once}"
        f" calls_in_first_second={len(first_second)} at_start_mb={memory.start_bytes / 1e6:.1f}"
        f" growth_half_mb={half_bytes / 1e6:.1f} growth_outage_mb={outage_bytes / 1e6:.1f}"
        f" growth_mb={memory.growth_bytes / 1e6:.1f}"
    )
    assert memory.growth_bytes <= GROWTH_BYTES_MAX
    assert memory.growth_bytes - half_bytes <= LATE_GROWTH_BYTES_MAX
    assert api.at_once == 1
    delivered = [stored.name for stored in api.stored]
    assert delivered == names_in_journal_order(harness)
    assert len(set(delivered)) == MESSAGES
    assert harness.ledger()["sinks"]["echo_api"]["delivered"] == MESSAGES


def round_of(rng: Random, numbers: range) -> list[tuple[str, bytes]]:
    """Make detections, some of a refused species, and heartbeats, some of an unknown node."""
    messages = []
    for number in numbers:
        match rng.randrange(20):
            case 0:
                messages.append(heartbeat(number, "known"))
            case 1:
                messages.append(heartbeat(number, "strange"))
            case 2:
                messages.append(detection(number, REFUSED_SPECIES))
            case _:
                messages.append(detection(number))
    return messages


def troubles(rng: Random) -> list[Trouble]:
    """Return each trouble, in some order, for a call or two, with good calls between them."""
    once: list[Trouble] = ["lie", "hang"]
    planned = [[trouble] * rng.choice((1, 1, 2)) for trouble in TROUBLES] + [[t] for t in once]
    rng.shuffle(planned)
    return [call for calls in planned for call in [""] * rng.randint(1, 6) + calls]


@pytest.mark.proof
def test_whatever_ails_the_api_each_record_is_there_and_each_repeat_has_its_reason(
    harness: Harness, api: WatchedApi, api_port: int
) -> None:
    rng = Random(SEED)
    broker = harness.start("broker")
    growths = []
    sent: list[tuple[str, bytes]] = []
    for number in range(ROUNDS):
        # A new service each time: after a lie it asks no more for many at once.
        program = harness.start("run")
        harness.wait_healthy(program)
        messages = round_of(rng, range(len(sent), len(sent) + ROUND_MESSAGES))
        api.plan(troubles(rng))
        if number == 0:
            api.listen(api_port)
        memory = Memory(program.pid, harness.delivery_pid(program))
        Device(harness.mqtt_port).publish(messages)
        sent += messages
        eventually(lambda: harness.ledger_now()["received"] == len(sent))  # noqa: B023
        eventually(lambda: sink(harness)["backlog"] == 0, seconds=240)
        memory.close()
        growths.append(memory.growth_bytes)
        assert harness.stop(program) == 0
    harness.stop(broker)

    refused = sum(REFUSED_SPECIES.encode() in p or b"strange" in p for _, p in sent)
    figures = harness.ledger()["sinks"]["echo_api"]
    assert (figures["delivered"], figures["parked"]) == (len(sent) - refused, refused)
    by_name = defaultdict(list)
    for stored in api.stored:
        by_name[stored.name].append(stored)
    assert len(by_name) == len(sent) - refused
    for name, storings in by_name.items():
        # The last one was answered, so that it ended; the others stored and did not say so.
        *repeated, last = [api.trouble_of(stored) for stored in storings]
        assert last in ("", "slow"), (name, last)
        assert STORED_BUT_NOT_SAID.issuperset(repeated), (name, repeated)
    first_names = list(by_name)
    in_order = [f"n{number}" for number in range(len(sent)) if f"n{number}" in by_name]
    assert first_names == in_order
    for before, after in zip(api.calls, api.calls[1:], strict=False):
        if before.trouble == 429:
            assert after.at_seconds - before.at_seconds >= RETRY_AFTER_SECONDS
    assert api.at_once == 1
    had = Counter(call.trouble for call in api.calls if call.trouble)
    assert had.keys() == {*TROUBLES, "lie", "hang"}
    repeats = len(api.stored) - len(by_name)
    twice = sum(n > 1 for n in Counter((s.key, s.name) for s in api.stored).values())
    print(
        f"\ntroubles: seed={SEED} rounds={ROUNDS} messages={len(sent)} calls={len(api.calls)}"
        f" in_trouble={had.total()} parked={refused} repeats={repeats}"
        f" repeats_under_the_same_key={twice} unexplained=0"
        f" growth_mb={max(growths) / 1e6:.1f}"
    )
    assert max(growths) <= GROWTH_BYTES_MAX
