"""Make the ledger of a salvaged journal close, and report what is not as it was."""

from typing import Any

import apsw
from msgspec import Struct

from echo_ingest.formatting import counted
from echo_ingest.journal import INSERT_RECORD, receipt_days

RANGES_SHOWN_MAX = 50
STAND_IN = b"lost: a damaged journal did not give back the record of this offset"


class SalvageReport(Struct):
    """What was saved of a damaged journal, and what was not."""

    reason: str
    kept_as: str
    """The name of the damaged file, beside the new one."""
    records: int = 0
    lost_records: int = 0
    lost_offsets: str = ""
    """Their ranges, for people."""
    dead_letters: int = 0
    lost_dead_letters: int = 0
    all_lost_are_known: bool = True
    """False if nobody can tell how many records there were."""
    notes: list[str] = []
    """What else is not as it was, one sentence each."""

    def words(self) -> str:
        """Return the report for people, a line for each fact."""
        lines = [
            f"The journal was damaged: {self.reason}",
            f"Saved: {self.records:,} records and {self.dead_letters:,} dead letters.",
            f"Lost: {self.lost_records:,} records and {self.lost_dead_letters:,} dead letters"
            f"{'' if self.all_lost_are_known else ', or more: nobody can tell'}.",
        ]
        if self.lost_records:
            lines.append(f"The lost records had the offsets {self.lost_offsets}.")
        lines += self.notes
        lines.append(
            f"The damaged file is kept as {self.kept_as}; nothing reads it any more. Check the "
            "disk and the memory of this machine. Devices that keep their messages may send them "
            "again: a message that is here already counts as a duplicate."
        )
        return "\n".join(lines) + "\n"


def close_ledger(db: apsw.Connection, is_whole: dict[str, bool], report: SalvageReport) -> None:
    """Bring the small tables in line with the rows that were saved.

    `is_whole` says for each small table whether all its rows could be read.
    """
    report.records = db.execute("SELECT count(*) FROM record").get
    report.dead_letters = db.execute("SELECT count(*) FROM dead_letter").get
    _mend_node_days(db, is_whole, report)
    _mend_forms(db, is_whole, report)
    newest, trimmed = _mend_ledger(db, is_whole, report)
    db.execute(  # retention leaves what is parked: the one kind of row that can be lost behind it
        "INSERT OR IGNORE INTO lost SELECT DISTINCT offset, offset FROM parked"
        " WHERE offset <= ? AND offset NOT IN (SELECT offset FROM record)",
        (trimmed,),
    )
    report.lost_records = db.changes()
    _mend_sinks(db, newest, is_whole, report)
    lowest: int | None = db.execute("SELECT min(cursor) FROM sink").get
    if lowest is not None and lowest < trimmed:  # retention removes only what every sink has
        trimmed = lowest
        db.execute("UPDATE ledger SET trimmed_offset = ?", (trimmed,))
    _note_lost(db, newest, trimmed, report)
    _mend_places(db, newest, is_whole, report)
    receipt_days.fill(db)


def _mend_node_days(db: apsw.Connection, is_whole: dict[str, bool], report: SalvageReport) -> None:
    db.execute(
        "DELETE FROM node_day WHERE received <> stored + duplicates + dead_letters"
        "  + ignored + unclaimed + discarded"
        " OR min(received, stored, duplicates, received_bytes, first_heard_at_ms,"
        "  ignored, unclaimed, discarded) < 0"
        " OR day NOT BETWEEN 0 AND 2932896"  # the end of the year 9999
    )
    if db.changes() or not is_whole["node_day"]:
        is_whole["node_day"] = False
        report.notes.append(
            "A part of the ledger by node and day could not be read: its sums are too small."
        )


def _mend_forms(db: apsw.Connection, is_whole: dict[str, bool], report: SalvageReport) -> None:
    """Let nothing take the numbers of forms that are lost: it would read messages of theirs."""
    if is_whole["form"]:
        return
    db.execute(
        "INSERT INTO form (id, name, digest, source) SELECT DISTINCT form, '', 'lost-' || form, x''"
        " FROM record WHERE form IS NOT NULL AND form NOT IN (SELECT id FROM form)"
    )
    if db.changes():
        report.notes.append(
            f"{counted(db.changes(), 'forms')} could not be read, nor can the messages in them."
        )


def _mend_ledger(
    db: apsw.Connection, is_whole: dict[str, bool], report: SalvageReport
) -> tuple[int, int]:
    """Write the row of the ledger; return the newest offset, and the newest trimmed one."""
    top = db.execute("SELECT coalesce(max(offset), 0) FROM record").get
    last_letter = db.execute("SELECT coalesce(max(id), 0) FROM dead_letter").get
    row = db.execute("SELECT * FROM ledger").fetchone() or (1, -1, *[0] * 7, 2**62, 0, 0, 0)
    received, stored, duplicates, dead_letters, *acknowledged, trimmed, lost_before = row[1:9]
    keys_with_time, *others = row[9:]  # too high costs time, and too low duplicates
    sums = db.execute(
        "SELECT sum(stored), sum(duplicates), sum(dead_letters),"
        " sum(ignored), sum(unclaimed), sum(discarded) FROM node_day"
    ).get
    if received == stored + duplicates + dead_letters + sum(others) and stored >= top:
        pass
    elif is_whole["node_day"] and sums[0] is not None and sums[0] >= top:
        stored, duplicates, dead_letters, *others = sums
        report.notes.append("The ledger was computed anew from the ledger by node and day.")
    else:
        cursors = (
            "SELECT max(cursor) FROM sink WHERE cursor = skipped + delivered"
            " + (SELECT count(*) FROM parked WHERE sink = name)"
        )
        stored = max(top, db.execute(cursors).get or 0)
        duplicates, dead_letters, others = 0, report.dead_letters, [0, 0, 0]
        acknowledged = [stored, last_letter]  # rather repeat a heartbeat than lose one
        report.all_lost_are_known = False
        report.notes.append(
            "The ledger could not be read. It counts anew from what was saved, without duplicates. "
            f"Offsets after {stored:,} may be used a second time, and records that retention had "
            "removed are among those that are said to be lost."
        )
    dead_letters = max(dead_letters, report.dead_letters)
    lost = dead_letters - report.dead_letters
    report.lost_dead_letters = max(0, lost - lost_before)
    trimmed = trimmed if 0 <= trimmed <= stored else 0
    received = stored + duplicates + dead_letters + sum(others)
    db.execute("DELETE FROM ledger")
    db.execute(
        "INSERT INTO ledger VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(received, stored, duplicates, dead_letters, *acknowledged, trimmed, lost),
            min(max(keys_with_time, 0), stored),
            *others,
        ),
    )
    return stored, trimmed


def _mend_sinks(
    db: apsw.Connection, newest: int, is_whole: dict[str, bool], report: SalvageReport
) -> None:
    """Give each sink a cursor that is not too high, and figures that add up to it."""
    if not is_whole["sink"]:
        report.notes.append(
            "Not all cursors of sinks could be read. A sink without one starts at the beginning: "
            "it gets again what it has."
        )
    sinks: list[Any] = db.execute("SELECT * FROM sink").fetchall()
    for name, cursor, skipped, delivered, paused_at_ms in sinks:
        parked = db.execute("SELECT count(*) FROM parked WHERE sink = ?", (name,)).get
        settled = skipped + delivered + parked
        candidates = [cursor, settled] if is_whole["parked"] or settled > cursor else [cursor]
        possible = [offset for offset in candidates if 0 <= offset <= newest]
        if not possible or skipped < 0 or delivered < 0:
            db.execute("DELETE FROM sink WHERE name = ?", (name,))
            report.notes.append(
                f"How far {name} had come cannot be told: it starts at the beginning, and gets "
                f"again what it has.{' It is not paused any more.' if paused_at_ms else ''}"
            )
            continue
        lowest = min(possible)
        if lowest != cursor:
            report.notes.append(
                f"The figures of {name} did not agree: it goes on after offset {lowest:,}, and may "
                "get again what it has."
            )
        db.execute(
            "DELETE FROM parked WHERE sink = ?1 AND"
            " (offset > ?2 OR offset NOT IN (SELECT offset FROM record))",
            (name, lowest),
        )
        parked = db.execute("SELECT count(*) FROM parked WHERE sink = ?", (name,)).get
        delivered = min(delivered, lowest - parked)
        not_offered = lowest - parked - delivered
        if not_offered > skipped:
            report.notes.append(
                f"{not_offered - skipped:,} parked for {name} could not be read or were among the "
                "lost records: they count as skipped."
            )
        db.execute(
            "UPDATE sink SET cursor = ?, skipped = ?, delivered = ? WHERE name = ?",
            (lowest, not_offered, delivered, name),
        )
    db.execute("DELETE FROM parked WHERE sink NOT IN (SELECT name FROM sink)")


def _mend_places(
    db: apsw.Connection, newest: int, is_whole: dict[str, bool], report: SalvageReport
) -> None:
    """Forget what was said of offsets that may be used a second time."""
    db.execute("DELETE FROM place WHERE first < 1 OR last < first OR last > ?", (newest,))
    if db.changes() or not is_whole["place"]:
        report.notes.append(
            "Where some clips were put could not be read, so sinks that are to name them park "
            "their records: `echo-ingest sinks backfill objects`, then replay those."
        )


def _note_lost(db: apsw.Connection, newest: int, trimmed: int, report: SalvageReport) -> None:
    """Write down which offsets have no record, and put something in the place of the newest."""
    db.execute("DELETE FROM lost WHERE first < 1 OR last < first OR last > ?", (newest,))
    length = "SELECT coalesce(sum(last - max(first, ?1 + 1) + 1), 0) FROM lost WHERE last > ?1"
    lost_before = db.execute(length, (trimmed,)).get
    db.execute("DELETE FROM lost WHERE last > ?", (trimmed,))
    db.execute(
        "INSERT INTO lost SELECT before + 1, offset - 1 FROM ("
        " SELECT offset, lag(offset, 1, ?1) OVER (ORDER BY offset) AS before"
        " FROM record WHERE offset > ?1) WHERE offset > before + 1",
        (trimmed,),
    )
    top, received_at_ms = db.execute(
        "SELECT offset, received_at_ms FROM record ORDER BY offset DESC LIMIT 1"
    ).fetchone() or (0, 0)
    if top < newest:
        if newest > trimmed:
            db.execute("INSERT INTO lost VALUES (?, ?)", (max(top, trimmed) + 1, newest))
        key = bytes(4) + newest.to_bytes(12)
        db.execute(
            INSERT_RECORD,
            (newest, key, None, received_at_ms, "lost", None, "", None, STAND_IN, 0, None),
        )
    report.lost_records += db.execute(length, (trimmed,)).get - lost_before
    ranges = db.execute("SELECT first, last FROM lost ORDER BY first").fetchall()
    report.lost_offsets = ", ".join(
        f"{first:,}" if first == last else f"{first:,} to {last:,}"
        for first, last in ranges[:RANGES_SHOWN_MAX]
    )
    if len(ranges) > RANGES_SHOWN_MAX:
        report.lost_offsets += f", and {len(ranges) - RANGES_SHOWN_MAX:,} more ranges"
