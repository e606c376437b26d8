"""`python -m bench.parts`: how long each part of the first half takes by itself, in one process.

No socket and no broker: what is left of a round when these are added up is the session and the
event loop. SQLite gets the rows of the journal, ready made, with the journal's own settings: it is
the floor under any journal kept in it. Prints a table; the median of `ROUNDS`.
"""

import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

from rich.table import Table

from bench.disk import synced_bytes_per_second
from bench.payloads import CLIP_BYTES, RECEIVED_AT_MS, Form, messages
from bench.results import screen
from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import SHIPPED, Forms
from echo_ingest.journal import (
    INSERT_RECORD,
    WAL_CHECKPOINT_PAGES,
    Arrival,
    Journal,
    connect,
)
from echo_ingest.journal.plan import Known, plan
from echo_ingest.record import Identity, Message, payload_hash
from echo_ingest.settings import Settings

ROUNDS = 5
DISK_CHUNKS = 200
SIZES: dict[Form, tuple[int, int]] = {
    "detections": (50_000, 1_000),
    "BirdNET-Go": (50_000, 1_000),
    "mix": (50_000, 1_000),
    "clips": (60, 20),
    "raw clips": (60, 30),
}
"""Messages in all, and in each commit: as many as the session hands over at once."""


def main() -> None:
    """Measure, and print."""
    shown = Table(title="Microseconds a message", title_justify="left")
    for name in ("", *SIZES):
        shown.add_column(name, justify="left" if not name else "right")
    columns = [_measured(form, *sizes) for form, sizes in SIZES.items()]
    for row in columns[0]:
        shown.add_row(row, *(f"{column[row]:,.2f}" for column in columns))
    disk = median(synced_bytes_per_second(CLIP_BYTES, DISK_CHUNKS) for _ in range(ROUNDS))
    shown.add_row(
        "the disk: a clip written and synced", "", "", *2 * (f"{CLIP_BYTES / disk * 1e6:,.2f}",)
    )
    screen.print(shown)


def _measured(form: Form, number: int, batch: int) -> dict[str, float]:
    identify = Decoder(Settings().payload_bytes_max, forms=Forms.of_folder(SHIPPED)).identify
    node_of = Settings().node_of
    received = [
        Message(topic, payload, RECEIVED_AT_MS, node_of(topic))
        for topic, payload in messages(form, number)
    ]
    arrivals: list[Arrival] = [(each, identify(each)) for each in received]
    pinned = {
        each.form.digest: 1
        for _, each in arrivals
        if isinstance(each, Identity) and each.form is not None
    }
    known = Known(_not_there, forms=pinned)
    steps: dict[str, Callable[[], object]] = {
        "identify: is it valid, and which": lambda: [identify(each) for each in received],
        "hash": lambda: [payload_hash(each) for each in received],
        "plan: keys and rows, with the hash": lambda: plan(arrivals, 1, known, Counter()),
    }
    spent = {name: median(_timed(step) for _ in range(ROUNDS)) for name, step in steps.items()}
    spent |= _sqlite(plan(arrivals, 1, known, Counter()).records, batch)
    return {name: seconds / number * 1e6 for name, seconds in spent.items()}


def _not_there(offset: int) -> Message:
    raise KeyError(offset)


def _timed(step: Callable[[], object]) -> float:
    began = time.process_time()
    step()
    return time.process_time() - began


def _sqlite(rows: list[tuple[object, ...]], batch: int) -> dict[str, float]:
    """Return CPU seconds and wall-clock seconds; the difference is waiting for the disk."""
    busy, passed = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="echo-ingest-bench-") as folder:
            Journal(path := Path(folder) / "journal.db").close()
            with contextlib.closing(connect(path)) as db:
                db.execute("PRAGMA synchronous = FULL")
                db.execute(f"PRAGMA wal_autocheckpoint = {WAL_CHECKPOINT_PAGES}")
                began, began_cpu = time.perf_counter(), time.process_time()
                for first in range(0, len(rows), batch):
                    with db:
                        db.executemany(INSERT_RECORD, rows[first : first + batch])
                passed.append(time.perf_counter() - began)
                busy.append(time.process_time() - began_cpu)
    return {
        "SQLite: those rows, and nothing else": median(busy),
        "SQLite, by the clock: with the wait for the disk": median(passed),
    }


if __name__ == "__main__":
    main()
