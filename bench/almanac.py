"""`python -m bench.almanac`: how long pages wait for the almanac, and what it costs.

A journal of 1,000,000 records of 10,000 nodes is made, followed as the web process does it, and the
almanac asked what the console asks. Then the same of one with 1,000,000 refused messages, half of
them by one node.
"""

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

from echo_ingest.almanac import Almanac, AlmanacUnready, CallFilter, Follower, almanac_path
from echo_ingest.decode import Decoder
from echo_ingest.journal import Journal
from echo_ingest.journal.reader import JournalReader
from echo_ingest.record import Message, RecordId
from tests.browser import forest
from tests.browser.forest import PAYLOAD_BYTES_MAX, PREFIX
from tests.browser.huge import NODES, RECORDS, fill
from tests.machine import machine

ROUNDS = 9
DAY_MS = 86_400_000
BATCH = 5_000
BROKEN = "broken"
UNREADABLE = (
    b"21.4 degrees",
    b'{"lat": 999',
    b'{"sensorId": "node", "temp": NaN}',
    b'{"species": "Ninox boobook", "confidence": 870}',
    b'{"species": "Ninox boobook", "timestamp": "yesterday"}',
)

Question = Callable[[Almanac], object]

screen = Console(width=100)


def main() -> None:
    """Measure and show."""
    with tempfile.TemporaryDirectory(prefix="almanac-") as folder:
        path, journal_path = almanac_path(Path(folder)), Path(folder) / "journal.db"
        screen.print(f"{machine()}\n{RECORDS:,} records of {NODES:,} nodes …")
        fill(journal_path)
        with contextlib.closing(JournalReader(journal_path)) as reader:
            last = reader.last_offset()
        seconds, processor_seconds = follow(path, journal_path, last)
        mebibytes = path.stat().st_size / 2**20
        screen.print(
            f"followed in {seconds:.0f} s, {processor_seconds:.0f} s of them on the processor;"
            f" {mebibytes:.0f} MiB, {path.stat().st_size / last:.0f} bytes a record"
        )
        show(path, questions(path))
    with tempfile.TemporaryDirectory(prefix="almanac-") as folder:
        path, journal_path = almanac_path(Path(folder)), Path(folder) / "journal.db"
        screen.print(f"{RECORDS:,} refused messages, half of them of one node …")
        refuse(journal_path)
        forest.follow(Path(folder))
        show(path, questions_of_refused(path))


def show(path: Path, asked: Mapping[str, Question]) -> None:
    """Print how long each answer takes."""
    table = Table("asked", "first ms", "median ms", "most ms")
    for name, question in asked.items():
        taken_ms = [ask(path, question) for _ in range(ROUNDS)]
        first, middle, most = taken_ms[0], median(taken_ms), max(taken_ms)
        table.add_row(name, f"{first:.1f}", f"{middle:.1f}", f"{most:.1f}")
    screen.print(table)


def follow(path: Path, journal_path: Path, last: int) -> tuple[float, float]:
    """Return how many seconds it takes until all is there: of wall-clock time and of CPU time."""
    began, busy = time.perf_counter(), time.process_time()
    stop = threading.Event()
    follower = Follower(path, journal_path, Decoder(PAYLOAD_BYTES_MAX))
    thread = threading.Thread(target=follower.run, args=(stop,))
    thread.start()
    while followed(path) < last:
        stop.wait(0.5)
    taken = time.perf_counter() - began, time.process_time() - busy
    stop.set()
    thread.join()
    return taken


def followed(path: Path) -> int:
    """Return the offset up to which everything is there."""
    with contextlib.suppress(AlmanacUnready), contextlib.closing(Almanac(path)) as almanac:
        return almanac.progress().offset
    return 0


def refuse(journal_path: Path) -> None:
    """Append messages that cannot be read, for five reasons: one of them rare, and long ago."""
    decoder = Decoder(PAYLOAD_BYTES_MAX)
    rng = Random(3)
    now_ms = time.time_ns() // 1_000_000
    with contextlib.closing(Journal(journal_path)) as journal:
        for start in range(0, RECORDS, BATCH):
            arrivals = []
            for number in range(start, start + BATCH):
                node = BROKEN if number % 2 else f"node-{rng.randrange(NODES):05}"
                payload = UNREADABLE[0] if number < BATCH // 100 else rng.choice(UNREADABLE[1:])
                received_at_ms = now_ms - (RECORDS - number) * 2_000
                message = Message(f"{PREFIX}/{node}", payload, received_at_ms, node)
                arrivals.append((message, decoder.identify(message)))
            journal.append(arrivals)
            journal.acknowledged()


def questions_of_refused(path: Path) -> Mapping[str, Question]:
    """Return the questions of the pages about refused messages."""
    with contextlib.closing(Almanac(path)) as almanac:
        groups = almanac.refused()
    frequent, rare = groups[0], groups[-1]
    now_ms = time.time_ns() // 1_000_000
    return {
        "refused, by reason": lambda almanac: almanac.refused(),
        "of one node, by reason": lambda almanac: almanac.refused(BROKEN),
        "50 of a frequent reason": lambda almanac: almanac.refused_ones(frequent),
        "50 of a rare one": lambda almanac: almanac.refused_ones(rare),
        "50 of a rare one, of one node": lambda a: a.refused_ones(rare, node=BROKEN),
        "that node": lambda almanac: almanac.node(BROKEN, now_ms, now_ms - DAY_MS),
    }


def questions(path: Path) -> Mapping[str, Question]:
    """Return the questions of the pages, under names for people."""
    now_ms = time.time_ns() // 1_000_000
    zone = ZoneInfo("Australia/Adelaide")
    with contextlib.closing(Almanac(path)) as almanac:
        node = almanac.node_names(1)[0]
        species = almanac.species(1)[0].species
        group = almanac.refused()[0]
        deep = almanac.calls(CallFilter(), 500)[-1].record

    def nodes(**asked: Any) -> Question:
        return lambda almanac: almanac.nodes(now_ms, now_ms - DAY_MS, **asked)

    def calls(before: RecordId | None = None, **wanted: Any) -> Question:
        return lambda almanac: almanac.calls(CallFilter(**wanted), before=before)

    def nights(nights_max: int, **wanted: Any) -> Question:
        return lambda almanac: almanac.nights(CallFilter(**wanted), zone, nights_max)

    return {
        "counts of nodes": lambda almanac: almanac.count_nodes(now_ms),
        "50 nodes by name": nodes(),
        "50 nodes by clock error": nodes(order="clock", descending=True),
        "50 nodes by messages today": nodes(order="messages_today", descending=True),
        "50 nodes by dead letters": nodes(order="dead_letters", descending=True),
        "50 nodes with 77 in their name": nodes(text="77"),
        "the last 50 of all nodes": nodes(skip=NODES - 50),
        "all nodes on the map": lambda almanac: almanac.points(),
        "a node's calendar, 60 days": lambda a: a.calendar(node, now_ms - 60 * DAY_MS, now_ms),
        "a node's health, 60 days": lambda a: a.health(node, now_ms - 60 * DAY_MS, now_ms),
        "50 newest calls": calls(),
        "50 calls further on": calls(before=deep),
        "50 calls of a species, 90 % and more": calls(species=species, confidence_percent_min=90),
        "50 calls of a node": calls(node=node),
        "50 calls of a node and a species": calls(node=node, species=species),
        "50 recordings": lambda almanac: almanac.recordings(CallFilter()),
        "14 nights": nights(14),
        "14 nights, 70 % and more": nights(14, confidence_percent_min=70),
        "14 nights of a species": nights(14, species=species),
        "14 nights of a node": nights(14, node=node),
        "31 nights": nights(31),
        "species": lambda almanac: almanac.species(),
        "refused, by reason": lambda almanac: almanac.refused(),
        "50 of a reason": lambda almanac: almanac.refused_ones(group),
    }


def ask(path: Path, question: Question) -> float:
    """Return how many milliseconds an answer takes, counted from opening the file."""
    began = time.perf_counter()
    with contextlib.closing(Almanac(path)) as almanac:
        question(almanac)
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
