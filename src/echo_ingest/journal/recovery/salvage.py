"""Salvage: a damaged journal is set aside, and all that can still be read continues in a new one.

What is saved
  Every record and dead letter whose hash and checksum prove it whole, with its own offset and key,
  wherever in the file or its WAL it lies; and the rows of the small tables, as far as the figures
  of the new ledger close with them.

What is lost, and how the ledger says so
  The `lost` table has the offsets of records that cannot be read any more. They count as stored; a
  sink that had not reached them counts them as skipped when it passes. If the newest record is
  among them, an empty row takes its place, so that no offset is used twice; that row is parked,
  since it is no message. Of lost dead letters only the number is kept.

Twice rather than never
  A sink whose cursor cannot be read starts again at the beginning. If its figures disagree, the
  lower cursor counts. Parked records that cannot be read count as skipped.

The damaged file is never changed and never deleted. A salvage that is interrupted begins anew at
the next start, or is finished then if its result was complete.
"""

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from sys import getsizeof
from typing import Any

import apsw
import structlog

from echo_ingest.journal import INSERT_RECORD
from echo_ingest.journal.entries import dead_letter_checksum, record_checksum
from echo_ingest.journal.journal_file import (
    JournalFull,
    JournalUnusable,
    needing_room,
)
from echo_ingest.journal.recovery.detect import find_damage, note_of
from echo_ingest.journal.recovery.repair_ledger import SalvageReport, close_ledger
from echo_ingest.journal.recovery.sqlite_pages import Cell, Row, SqlitePages
from echo_ingest.journal.schema import bring_up_to_date
from echo_ingest.process.files import NO_ROOM, sync
from echo_ingest.record import Message, payload_hash

BATCH_ROWS = 1_000
BATCH_BYTES = 8 * 1024 * 1024
LARGE_TABLES = ("record", "dead_letter")
DERIVED_TABLES = ("receipt_day", "attempt")
"""Not copied: the one is made anew, and without the other nothing is suspected."""
ADDED: dict[str, Row] = {
    "parked": (None, None),
    "ledger": (2**62, 0, 0, 0),
    "node_day": (0, 0, 0),
    "form": (0,),
}
"""What stands in the columns that a later version added to a table, in rows from before."""

log = structlog.get_logger("journal")


def report_of(path: Path) -> Path:
    """Return the path of the report on a salvage of the journal at `path`; a person removes it."""
    return path.with_name(path.name + ".salvage.txt")


def mend(path: Path) -> None:
    """Make sure at a start that the journal at `path` can be used; log what had to be done."""
    finish(path)
    reason = find_damage(path)
    if reason is None:
        return
    log.error("journal damaged", reason=reason, meaning="saving what can be read of it")
    report = salvage(path, reason)
    log.error(
        "journal salvaged",
        records_saved=report.records,
        records_lost=report.lost_records,
        all_lost_are_known=report.all_lost_are_known,
        offsets_lost=report.lost_offsets,
        dead_letters_saved=report.dead_letters,
        dead_letters_lost=report.lost_dead_letters,
        notes=report.notes,
        damaged_file=report.kept_as,
        report=str(report_of(path)),
    )


def salvage(path: Path, reason: str) -> SalvageReport:
    """Replace the damaged journal at `path` by a new one; return what was saved.

    It takes about a minute for five million records. Raises `JournalUnusable` if the disk has no
    room for a second file; then nothing has changed.
    """
    moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    needed = sum(each.stat().st_size for each in _files(path) if each.exists())
    no_room = JournalUnusable(
        f"{path} is damaged ({reason}), and saving what can be read takes up to {needed:,} bytes "
        "more on its disk: make room, and start again; nothing was changed"
    )
    if shutil.disk_usage(path.parent).free < needed:
        raise no_room
    building = path.with_name(path.name + ".salvaging")
    building.unlink(missing_ok=True)
    building.touch(mode=0o600)
    report = SalvageReport(reason, f"{path.name}.damaged-{moment}")
    try:
        with contextlib.closing(SqlitePages(path)) as pages:
            _rebuild(pages, building, report)
        with report_of(path).open("a") as file:
            file.write(report.words())
    except (JournalFull, OSError) as error:
        building.unlink()
        if isinstance(error, OSError) and error.errno not in NO_ROOM:
            raise
        raise no_room from error
    sync(building)
    building.rename(path.with_name(f"{path.name}.salvaged-{moment}"))
    finish(path)
    return report


def finish(path: Path) -> None:
    """Let a complete salvage take the place of the journal; also one that a kill interrupted."""
    for salvaged in path.parent.glob(f"{path.name}.salvaged-*"):
        moment = salvaged.name.rpartition("-")[2]
        for file in _files(path):
            if file.exists():
                suffix = file.name.removeprefix(path.name)
                file.rename(path.with_name(f"{path.name}.damaged-{moment}{suffix}"))
        note_of(path).unlink(missing_ok=True)
        salvaged.rename(path)
        sync(path.parent)


def _files(path: Path) -> list[Path]:
    """Return the files of a journal, the journal itself last: it is moved when all else is."""
    return [path.with_name(path.name + suffix) for suffix in ("-shm", "-wal", "")]


# ---------------------------------------------------------------------- rows


def _rebuild(pages: SqlitePages, building: Path, report: SalvageReport) -> None:
    """Make a journal of what `pages` give, and note the result in `report`."""
    with contextlib.closing(apsw.Connection(str(building))) as db:
        db.execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        with needing_room(building, db), db:
            bring_up_to_date(db)
            db.execute("DELETE FROM ledger")
            roots = _roots(db, pages)
            is_whole = {
                name: _copy_small(db, name, pages.tree(root))
                for name, root in roots.items()
                if name not in LARGE_TABLES + DERIVED_TABLES
            }
            _copy_large(db, pages, roots)
            close_ledger(db, is_whole, report)


def _roots(db: apsw.Connection, pages: SqlitePages) -> dict[str, int]:
    """Return the first page of each table: as the damaged file says, else as in a new one."""
    rows: list[Any] = db.execute(
        "SELECT name, rootpage FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    roots: dict[str, int] = dict(rows)
    for cell in pages.tree(1):
        match cell:
            case (_, ("table", str(name), _, int(root), _)) if name in roots:
                roots[name] = root
    return roots


def _copy_small(db: apsw.Connection, table: str, cells: Iterable[Cell]) -> bool:
    """Copy the rows that fit the schema; return whether all did."""
    columns = len(db.execute(f"PRAGMA table_info({table})").fetchall())
    insert = f"INSERT OR IGNORE INTO {table} VALUES ({','.join('?' * columns)})"  # noqa: S608
    added = ADDED.get(table, ())
    is_whole = True
    for cell in cells:
        if cell is None or not columns - len(added) <= len(cell[1]) <= columns:
            is_whole = False
            continue
        rowid, values = cell
        values += added[len(added) - (columns - len(values)) :]
        try:  # SQLite stores a rowid beside its row, whose own column is NULL
            db.execute(insert, (rowid if values[0] is None else values[0], *values[1:]))
        except apsw.ConstraintError:
            is_whole = False
    return is_whole


def _copy_large(db: apsw.Connection, pages: SqlitePages, roots: dict[str, int]) -> None:
    """Copy records and dead letters by their trees; if one is broken, from every page."""
    is_whole = not pages.wal_is_cut()
    for table in LARGE_TABLES:
        for cells in _batches(pages.tree(roots[table])):
            is_whole = _store(db, cells) and is_whole
    if is_whole:
        return
    trimmed, still_parked = _removed(db)
    for cells in _batches(pages.leaves()):
        _store(db, [cell for cell in cells if cell and _is_wanted(cell, trimmed, still_parked)])


def _removed(db: apsw.Connection) -> tuple[int, set[int]]:
    """Return the offset up to which retention has removed records, and which are still parked.

    The offset is 0 if that is not certain: removed records may then come back.
    """
    trimmed: int | None = db.execute(
        "SELECT trimmed_offset FROM ledger WHERE received = stored + duplicates + dead_letters"
        "  + ignored + unclaimed + discarded"
        " AND trimmed_offset <= (SELECT coalesce(min(cursor), trimmed_offset) FROM sink)"
    ).get
    rows: list[Any] = db.execute("SELECT offset FROM parked").fetchall()
    return trimmed or 0, {offset for (offset,) in rows}


def _is_wanted(cell: tuple[int, Row], trimmed: int, still_parked: set[int]) -> bool:
    rowid, row = cell
    return rowid > trimmed or rowid in still_parked or _record(rowid, row) is None


def _store(db: apsw.Connection, cells: list[Cell]) -> bool:
    """Store the rows that prove to be whole; return whether all do."""
    whole = [cell for cell in cells if cell is not None]
    records = [record for cell in whole if (record := _record(*cell)) is not None]
    letters = [letter for cell in whole if (letter := _dead_letter(*cell)) is not None]
    db.executemany(INSERT_RECORD.replace("INSERT", "INSERT OR IGNORE"), records)
    insert = f"INSERT OR IGNORE INTO dead_letter VALUES ({', '.join('?' * 11)})"  # noqa: S608
    db.executemany(insert, letters)
    return len(records) + len(letters) == len(cells)


def _record(rowid: int, row: Row) -> Row | None:
    """Return a row of the `record` table; None if it is not one, or not whole."""
    if len(row) == 10:  # of a version before 5
        row = (*row, None)
    if len(row) != 11:
        return None
    _, key, digest, received_at_ms, kind, node, topic, properties, payload, expected, form = row
    columns = (
        *(rowid, _bytes(key), _bytes(digest), received_at_ms),
        *(_text(kind), _text(node), _text(topic), _text(properties)),
    )
    hashed = columns[2] if columns[2] is not None else (columns[1] or b"")[4:]
    if record_checksum(columns, form) != expected or _hash(topic, payload) != hashed:
        return None
    return (*columns, _bytes(payload), expected, form)


def _dead_letter(rowid: int, row: Row) -> Row | None:
    """Return a row of the `dead_letter` table; None if it is not one, or not whole."""
    if len(row) == 9:  # of version 1
        row = (*row, None, None)
    if len(row) != 11:
        return None
    _, digest, received_at_ms, *texts, payload, expected, code, field = row
    columns = (_bytes(digest), received_at_ms, *map(_text, texts))
    code, field = _text(code), _text(field)
    is_whole = dead_letter_checksum(columns, code, field) == expected
    if not is_whole or _hash(topic=texts[1], payload=payload) != columns[0]:
        return None
    return (rowid, *columns, _bytes(payload), expected, code, field)


def _hash(topic: object, payload: object) -> bytes:
    return payload_hash(Message(_text(topic) or "", _bytes(payload) or b"", 0))


def _text(value: Any) -> Any:
    """Return text as text: one wrong bit is enough to store it as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _bytes(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _batches(cells: Iterable[Cell]) -> Iterator[list[Cell]]:
    batch: list[Cell] = []
    size_bytes = 0
    for cell in cells:
        batch.append(cell)
        size_bytes += sum(map(getsizeof, cell[1])) if cell is not None else 0
        if len(batch) >= BATCH_ROWS or size_bytes >= BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    yield batch
