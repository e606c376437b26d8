"""After a power cut at any moment the journal opens, with all that it promised and nothing by half.

The journal works on storage that loses, tears and reorders what was not synced
(`lossy_storage.py`). What is found after a cut must be exactly what it held when its last call had
returned or, where a call was under way, what it held after that: each call is one transaction. The
work then goes on from one of the images found, so that recoveries are cut short too.

`CUTS=20000 pytest tests/test_power_loss.py` is the long proof; `SEED=7` begins with that seed.
"""

import contextlib
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import apsw
import msgspec
import pytest

from echo_ingest import journal as journal_room
from echo_ingest.journal import Arrival, Journal
from echo_ingest.journal.cursors import Refused
from echo_ingest.journal.reader import JournalReader, Selection
from echo_ingest.journal.recovery.detect import find_damage
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    Identity,
    Message,
    Rejected,
    Stored,
)
from tests.lossy_storage import REAL_VFS, Disk, Noted, Tape, recording

CUTS = int(os.environ.get("CUTS", "1000"))
THOROUGH = CUTS > 2_000
FIRST_SEED = int(os.environ.get("SEED", "1"))
LIVES = 4
STEPS = 40
CHECKPOINT_PAGES = 24
START_SECONDS = int(datetime(2026, 9, 14, 5, 45, 12, tzinfo=UTC).timestamp())

Held = dict[str, list[int]]
"""The rows of each table, hashed."""


@pytest.fixture(autouse=True)
def small_wal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_room, "WAL_CHECKPOINT_PAGES", CHECKPOINT_PAGES)


def held(path: Path) -> Held:
    """Return all that the journal holds, read beside it from the real files."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=REAL_VFS)
    tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    rows_by_table = {
        str(name): sorted(hash(row) for row in db.execute(f'SELECT * FROM "{name}"'))  # noqa: S608
        for (name,) in tables
    }
    db.close()
    return rows_by_table


def detection(rng: Random, number: int) -> Arrival:
    message_id = str(number) if number % 3 == 0 else None
    clip = rng.randbytes(rng.randrange(5_000, 25_000)).hex() if rng.random() < 0.03 else ""
    stamp = START_SECONDS + rng.randrange(100)
    payload = json.dumps({"n": number, "clip": clip, "timestamp": stamp}).encode()
    return Message("iotingestion/ridge-07", payload, 1_000 + number, "ridge-07"), Identity(
        "detection", stamp, message_id
    )


def attempt(rng: Random, arrival: Arrival) -> Arrival:
    """Return the same message as an outbox sends it that stamps each attempt anew."""
    message, identity = arrival
    if not isinstance(identity, Identity) or identity.message_id is None:
        return arrival
    stamp = START_SECONDS + rng.randrange(100)
    payload = json.dumps(json.loads(message.payload) | {"timestamp": stamp}).encode()
    return msgspec.structs.replace(message, payload=payload), msgspec.structs.replace(
        identity, seconds=stamp
    )


def heartbeat(rng: Random) -> Arrival:
    redelivered = rng.random() < 0.5
    return Message("t", b'{"status":"online"}', 5, redelivered=redelivered), Identity("telemetry")


def rubbish(rng: Random) -> Arrival:
    return Message("t", rng.randbytes(rng.randrange(300)), 5), Rejected(
        ReasonCode.UNKNOWN_FORM, "not JSON"
    )


class Life:
    """A journal at work, and what it held after each call; `pragma` may take its care away."""

    def __init__(self, tape: Tape, rng: Random, numbers: Iterator[int], pragma: str) -> None:
        self.states: list[Held] = []
        self._path = tape.folder / "journal.db"
        self._tape = tape
        self._rng = rng
        self._numbers = numbers
        self._pragma = pragma
        self._recent: list[Arrival] = []
        self._refused: list[tuple[str, int]] = []
        self._day = 20_000
        self._reader: apsw.Connection | None = None
        self._journal: Journal

    def live(self) -> None:
        doings = [
            *[self._append] * 7,
            *[self._settle] * 5,
            *[self._replay, self._replay_beside, self._replay_dead_letter],
            *[self._pause_or_resume, self._begin_anew, self._see_a_day, self._see_a_day],
            *[self._trim, self._trim, self._acknowledge, self._read_for_long, self._reopen],
        ]
        self._call(self._open)
        for sink in ("api", "store"):
            self._call(lambda name=sink: self._journal.add_sink(name))  # type: ignore[misc]
        for _ in range(STEPS):
            self._call(self._rng.choice(doings))
        if self._reader is not None:
            self._reader.close()
        self._call(self._journal.close)

    def _call(self, doing: Callable[[], object]) -> None:
        self._tape.note("begun")
        doing()
        self.states.append(held(self._path))
        self._tape.note("returned")

    def _open(self) -> None:
        self._journal = Journal(self._path)
        self._journal._db.execute(self._pragma)

    def _append(self) -> None:
        batch = []
        for _ in range(self._rng.choice((1, 1, 5, 30))):
            kind = self._rng.random()
            if kind < 0.75:
                batch.append(detection(self._rng, next(self._numbers)))
            elif kind < 0.85 and self._recent:
                batch.append(attempt(self._rng, self._rng.choice(self._recent)))
            else:
                batch.append(self._rng.choice((heartbeat, rubbish))(self._rng))
        self._journal.append(batch)
        self._recent = (self._recent + batch)[-200:]

    def _acknowledge(self) -> None:
        self._journal.acknowledged()

    def _settle(self) -> None:
        sink = self._rng.choice(("api", "store"))
        entries = self._journal.read(sink, 40)
        offsets = [entry.offset for entry in entries[: self._rng.randint(1, 40)]]
        refusals = {offset: Refused("no") for offset in offsets if self._rng.random() < 0.15}
        if offsets:
            self._journal.settle(sink, offsets, refusals)
        self._refused += [(sink, offset) for offset in refusals]

    def _replay(self, journal: Journal | None = None) -> None:
        if self._refused:
            sink, _ = self._rng.choice(self._refused)
            offsets = [offset for other, offset in self._refused[-9:] if other == sink]
            (journal or self._journal).request_replay(sink, offsets)

    def _pause_or_resume(self) -> None:
        self._rng.choice((self._journal.pause, self._journal.resume))("store")

    def _begin_anew(self) -> None:
        first = self._rng.randint(1, self._journal.ledger().stored + 1)
        self._journal.backfill(self._rng.choice(("api", "store")), first)

    def _replay_beside(self) -> None:
        beside = Journal(self._path)
        self._replay(beside)
        beside.close()

    def _replay_dead_letter(self) -> None:
        with contextlib.suppress(KeyError):
            number = self._rng.randint(1, 20)
            message, identity = detection(self._rng, next(self._numbers))
            assert isinstance(identity, Identity)
            self._journal.replay_dead_letter(number, message, identity)

    def _trim(self) -> None:
        days = self._rng.choice((0, 1))
        self._journal.trim(10**13, self._rng.choice((3, 50)), days=days, now_ms=10**13)

    def _see_a_day(self) -> None:
        self._day += self._rng.choice((1, 1, 1, 3_420, -60))
        self._journal.note_day(self._day * 86_400_000, leapt=self._rng.random() < 0.2)

    def _read_for_long(self) -> None:
        """Hold a snapshot, so that checkpoints can only do a part; or let go of it."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
            return
        self._reader = apsw.Connection(str(self._path), vfs=REAL_VFS)
        self._reader.execute("BEGIN; SELECT * FROM ledger")

    def _reopen(self) -> None:
        self._journal.close()
        self._open()


def check(path: Path, before: Held, after: Held, rng: Random) -> Held:
    """Check that `path` holds what was promised, whole, and that the journal goes on from there."""
    damage = find_damage(path)
    assert damage is None, f"taken for damaged: {damage}"
    with contextlib.ExitStack() as opened:
        journal = opened.enter_context(contextlib.closing(Journal(path)))
        state = held(path)
        assert state in (before, after), differences(state, before, after)
        db = opened.enter_context(contextlib.closing(apsw.Connection(str(path))))
        assert db.execute("PRAGMA integrity_check").get == "ok"
        reader = opened.enter_context(contextlib.closing(JournalReader(path)))
        assert reader.audit() == []
        last, offset = reader.last_offset(), 0
        while entries := reader.after(Selection(), offset):
            offset = entries[-1].offset
            assert not any(entry.damaged for entry in entries)
        assert offset == last
        if rng.random() < 0.1:
            assert journal.append([detection(rng, 10**6)]).outcomes == [Stored(last + 1)]
            journal.add_sink("late")
            assert journal.read("late", last + 1)[-1].offset == last + 1
    return state


def differences(state: Held, before: Held, after: Held) -> str:
    return "; ".join(
        f"{table}: {len(rows)} rows, {len(set(before[table]) - set(rows))} of those promised are"
        f" missing or changed, {len(set(rows) - set(after[table]))} are not of this moment"
        for table, rows in state.items()
    )


def write(files: Mapping[str, bytes], folder: Path, rng: Random) -> Path:
    """Write the files of an image, with random shared memory, which is never synced."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    if rng.random() < 0.3:
        (folder / "journal.db-shm").write_bytes(rng.randbytes(32_768))
    return folder / "journal.db"


def cut_and_check(folder: Path, seed: int, pragma: str = "PRAGMA synchronous = FULL") -> int:
    """Run some lives, one after the other, each cut at many moments; return at how many."""
    rng, numbers = Random(seed), itertools.count(1)
    Journal(folder / "empty.db").close()
    image: dict[str, bytes] = {}
    first, cuts = held(folder / "empty.db"), 0
    for number in range(LIVES):
        path = write(image, folder / f"life{number}", rng)
        with recording(path.parent) as tape:
            life = Life(tape, rng, numbers, pragma)
            life.live()
        shutil.rmtree(path.parent)
        states, disk, begun, returned = [first, *life.states], Disk(tape.start), 0, 0
        length = len(tape.events)
        moments = [*range(length)] * 3 if THOROUGH else rng.choices(range(length), k=25)
        last, times = rng.choice(moments), Counter(moments)
        for moment, event in enumerate(tape.events):
            disk.play(event)
            if isinstance(event, Noted):
                begun += event.text == "begun"
                returned += event.text == "returned"
            for _ in range(times[moment]):
                left = disk.survivor(rng)
                cut = write(left, folder / "cut", rng)
                try:
                    with recording(cut.parent):  # for its speed: it syncs nothing
                        state = check(cut, states[returned], states[begun], rng)
                except Exception as error:
                    raise AssertionError(
                        f"seed {seed}, life {number}, cut at {moment} of {length}: {error}"
                    ) from error
                shutil.rmtree(cut.parent)
                if moment == last:
                    image, first = left, state
        cuts += len(moments)
    return cuts


@pytest.mark.slow
def test_what_was_promised_survives_a_power_cut(tmp_path: Path) -> None:
    cuts = 0
    for seed in itertools.count(FIRST_SEED):
        (tmp_path / f"{seed}").mkdir()
        cuts += cut_and_check(tmp_path / f"{seed}", seed)
        if cuts >= CUTS:
            print(f"cuts={cuts} seeds={FIRST_SEED}..{seed} lost=0 half=0")
            break


@pytest.mark.parametrize("level", ["NORMAL", "OFF"])
def test_the_storage_really_loses_what_is_not_synced(tmp_path: Path, level: str) -> None:
    with pytest.raises(AssertionError, match=r"promised are missing|malformed|damaged"):
        cut_and_check(tmp_path, 1, f"PRAGMA synchronous = {level}")
