"""The versions of the journal's tables: how one becomes the next, and which one a file has.

`schema_1.sql` makes the tables, and each later file alters those of the version before. A file that
was released does not change any more: another form of the tables is another version
(`tests/test_schemas.py` has the hash of each file). So a journal is new, of this version, older,
newer, damaged, or of another build, whose tables are not those of its number. These are different
things, and only a damaged journal is set aside.
"""

import contextlib
import functools
from enum import Enum
from pathlib import Path
from typing import Any

import apsw
from msgspec import Struct

from echo_ingest.journal.receipt_days import NEVER, fill
from echo_ingest.journal.snapshot import at_one_moment

SCHEMA_VERSION = 5
"""There is a file `schema_N.sql` for each version up to this one."""
VERSION_WITH_RECEIPT_DAYS = 3
VERSION_WITH_FORMS = 5
ROTTEN_BYTES_MAX = 2
"""So many other letters in the text of a table are bits that flipped, not an edit."""
TABLES = (
    "SELECT CAST(tbl_name AS BLOB), CAST(type AS BLOB), CAST(name AS BLOB), CAST(sql AS BLOB)"
    " FROM sqlite_schema"
)
"""As bytes: text with a wrong bit in it need not be text any more."""

BEFORE_FORMS = {
    "record": "*, NULL AS form FROM main.record",
    "ledger": "*, 0 AS ignored, 0 AS unclaimed, 0 AS discarded FROM main.ledger",
    "node_day": "*, 0 AS ignored, 0 AS unclaimed, 0 AS discarded FROM main.node_day",
    "form": "0 AS id, '' AS name, '' AS digest, x'' AS source, 0 AS reread WHERE false",
    "ignored_day": "'' AS form, 0 AS day, 0 AS messages WHERE false",
    "discarded_day": "'' AS code, 0 AS day, 0 AS messages WHERE false",
    "unclaimed_topic": "'' AS topic, 0 AS messages, 0 AS bytes, 0 AS first_at_ms, 0 AS last_at_ms"
    " WHERE false",
    "unclaimed_message": "0 AS id, 0 AS received_at_ms, NULL AS account, NULL AS node, '' AS topic,"
    " NULL AS properties, x'' AS payload, 0 AS checksum WHERE false",
}
"""What a reader sees in a journal that is older than these tables and columns."""

Row = tuple[Any, ...]


class SchemaState(Enum):
    """How the tables of a file relate to those of this version."""

    NEW = "new"
    """It has no tables yet."""
    CURRENT = "current"
    OLDER = "older"
    """It is readable as it is, and `migration.migrate` makes it current."""
    NEWER = "newer"
    OTHER_BUILD = "other build"
    """Its number is known, but no version with this number has such tables."""
    DAMAGED = "damaged"


class SchemaFinding(Struct, frozen=True):
    """What was found out about the tables of a file."""

    state: SchemaState
    version: int
    detail: str = ""
    """What is damaged, or other than it should be."""


def bring_up_to_date(db: apsw.Connection, version: int = SCHEMA_VERSION) -> None:
    """Make the tables, or alter those of an older journal; part of a transaction of its caller.

    One transaction for all steps: a journal is of the old version or of the new one.
    """
    known: int = db.execute("PRAGMA user_version").get
    for step in range(known + 1, version + 1):
        db.execute(Path(__file__).with_name(f"schema_{step}.sql").read_text())
        if step == VERSION_WITH_RECEIPT_DAYS:
            fill(db)


def inspect_schema(db: apsw.Connection) -> SchemaFinding:
    """Tell of which version the tables are, and whether they are what that version made."""
    with at_one_moment(db):
        version: int = db.execute("PRAGMA user_version").get
        rows: set[Row] = set(db.execute(TABLES))
    if version == 0:
        if rows:
            return SchemaFinding(SchemaState.DAMAGED, 0, "its version is gone")
        return SchemaFinding(SchemaState.NEW, 0)
    if version > SCHEMA_VERSION:
        return SchemaFinding(SchemaState.NEWER, version)
    missing = _tables_of(version) - rows
    if not missing:
        state = SchemaState.CURRENT if version == SCHEMA_VERSION else SchemaState.OLDER
        return SchemaFinding(state, version)
    name = min(missing)[0].decode()
    detail = f"the schema of {name} is not what it was"
    others = rows - _tables_of(version)
    is_rotten = all(any(_is_rotten(row, other) for other in others) for row in missing)
    state = SchemaState.DAMAGED if is_rotten else SchemaState.OTHER_BUILD
    return SchemaFinding(state, version, detail)


def show_as_newest(db: apsw.Connection, version: int) -> None:
    """Let a reader see an older journal, which it must not alter, as one of the newest version."""
    if version < VERSION_WITH_FORMS:
        for table, columns in BEFORE_FORMS.items():
            view = f"CREATE TEMP VIEW {table} AS SELECT {columns}"
            db.execute(view)
    if version < VERSION_WITH_RECEIPT_DAYS:
        # No day narrows a search down: the only one is at the end of all days, before every record.
        db.execute(f"CREATE TEMP VIEW receipt_day AS SELECT 1 AS id, {NEVER} AS day, 0 AS offset")
    if version == 1:
        for table in ("dead_letter", "parked"):
            db.execute(
                f"CREATE TEMP VIEW {table} AS"  # noqa: S608
                f" SELECT *, NULL AS code, NULL AS field FROM main.{table}"
            )


@functools.cache
def _tables_of(version: int) -> frozenset[Row]:
    """Return the rows of `TABLES` as that version makes them."""
    with contextlib.closing(apsw.Connection(":memory:")) as new:
        bring_up_to_date(new, version)
        return frozenset(new.execute(TABLES))


def _is_rotten(row: Row, other: Row) -> bool:
    """Return whether `other` is the row of a table in which only some bits have changed.

    Whoever edits the text of a table changes its length, or several letters into other letters.
    """
    one, two = (b"\n".join(value or b"" for value in each) for each in (row, other))
    changed = bytes(b for a, b in zip(one, two, strict=False) if a != b)
    is_text = changed.isascii() and changed.decode("ascii", "replace").isprintable()
    return len(one) == len(two) and (len(changed) <= ROTTEN_BYTES_MAX or not is_text)
