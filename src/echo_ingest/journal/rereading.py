"""Stored messages that are read by another form from now on: what changes in the journal.

A message keeps its offset, its key and its bytes, and what sinks have settled stays settled. Its
form changes, and with it the kind of its records and the node that it belongs to, which is counted
as if the message had come from there at once. What was counted of its repeats stays where it is.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Any

import apsw
from msgspec import Struct

from echo_ingest.journal import pinned_forms
from echo_ingest.journal.entries import Entry, record_checksum
from echo_ingest.journal.node_days import REPLAY_NODE_DAY, of_another_node
from echo_ingest.record import Identity, PinnedForm

COLUMNS = "offset, key, digest, received_at_ms, kind, node, topic, properties"


class Reread(Struct, frozen=True):
    """A stored message, and what another form makes of it."""

    entry: Entry
    identity: Identity
    node: str | None
    """The node that it belongs to by that form."""
    has_fewer_records: bool
    """Whether it has fewer records by that form than by its own."""


class Repinned(Enum):
    """What became of a message that another form is to read."""

    DONE = "done"
    PARKED = "parked"
    """A sink has refused it, and one of its records would vanish: nothing has changed."""
    CHANGED = "changed"
    """It is not what it was when it was read: nothing has changed."""


def repin(db: apsw.Connection, rereads: Sequence[Reread], form: PinnedForm) -> list[Repinned]:
    """Let `form` read these messages from now on; part of a transaction of its caller."""
    row = pinned_forms.row_of(db, form)
    outcomes = [_repin(db, each, row) for each in rereads]
    sql = "UPDATE form SET reread = reread + ? WHERE id = ?"
    db.execute(sql, (outcomes.count(Repinned.DONE), row))
    return outcomes


def _repin(db: apsw.Connection, reread: Reread, form: int) -> Repinned:
    offset = reread.entry.offset
    stored: Any = db.execute(
        f"SELECT {COLUMNS}, checksum, form,"  # noqa: S608
        " coalesce((SELECT digest FROM form WHERE id = record.form), '') FROM record"
        " WHERE offset = ?",
        (offset,),
    ).fetchone()
    if stored is None:
        return Repinned.CHANGED
    *columns, expected, of_form, digest = stored
    is_whole = record_checksum(tuple(columns), of_form) == expected
    if not is_whole or digest != reread.entry.message.form:
        return Repinned.CHANGED
    if reread.has_fewer_records and _is_parked(db, offset):
        return Repinned.PARKED
    before = columns[5]
    columns[4:6] = reread.identity.kind, reread.node
    db.execute(
        "UPDATE record SET kind = ?, node = ?, form = ?, checksum = ? WHERE offset = ?",
        (*columns[4:6], form, record_checksum(tuple(columns), form), offset),
    )
    moved = of_another_node(before, reread.node, reread.entry.message)
    db.executemany(REPLAY_NODE_DAY, moved)
    for node, day, *_ in moved:
        # A node that a form made up by mistake was never heard.
        sql = "DELETE FROM node_day WHERE node = ? AND day = ? AND received = 0"
        db.execute(sql, (node, day))
    return Repinned.DONE


def _is_parked(db: apsw.Connection, offset: int) -> bool:
    sql = "SELECT 1 FROM parked WHERE offset = ?"
    return db.execute(sql, (offset,)).fetchone() is not None
