"""Records as rows: pure. Which columns each table has, and what a batch says about nodes.

docs/postgresql.md describes the tables. Audio is described and never stored; `clip_reference` has
the address of its bytes.
"""

from collections.abc import Iterable
from operator import itemgetter

import msgspec
from msgspec import Struct

from echo_ingest.columns import COLUMNS as FLAT
from echo_ingest.columns import PLACE, TABLES, Row, flat, flat_place
from echo_ingest.formatting import utc
from echo_ingest.record import AnyRecord, Place, kind, record_key
from echo_ingest.sinks import Delivery, clips

COLUMNS = {
    TABLES[of_kind]: ("key", "journal_offset", "index", "received_at", *columns)
    for of_kind, columns in FLAT.items()
}
"""Table → its columns, in the order of `table_rows`."""
NODE_COLUMNS = (
    "node",
    *("first_heard_at", "first_offset"),
    *("last_heard_at", "last_offset"),
    *("placed_at", "placed_offset"),
    *PLACE,
)


def _places(*names: str) -> dict[str, list[int]]:
    return {
        table: [columns.index(name) for name in names if name in columns]
        for table, columns in COLUMNS.items()
    }


AS_JSON = _places("alternatives", "clip_metadata")
REFERENCES = _places("clip_reference")


def table_rows(batch: Iterable[Delivery]) -> dict[str, list[Row]]:
    """Return for each table that the batch needs its rows, as in `COLUMNS`."""
    tables: dict[str, list[Row]] = {}
    for delivery in batch:
        for index, record in enumerate(delivery.records):
            table, row = record_row(delivery, index, record)
            tables.setdefault(table, []).append(row)
    return tables


def node_rows(batch: Iterable[Delivery]) -> list[Row]:
    """Return rows in `NODE_COLUMNS`, sorted: transactions that lock in one order never deadlock.

    The offset tells which message came later, and not the clock, which may have leapt.
    """
    nodes: dict[str, _NodeUpdate] = {}
    for delivery in batch:
        for record in delivery.records:
            node, place = record.node, record.place
            if node is None:
                continue
            heard = nodes.setdefault(node, _NodeUpdate(delivery, delivery))
            if delivery.offset < heard.first.offset:
                heard.first = delivery
            if delivery.offset > heard.last.offset:
                heard.last = delivery
            if place is not None and (
                heard.placed is None or delivery.offset >= heard.placed.offset
            ):
                heard.placed, heard.place = delivery, place
    return [
        (
            node,
            *_receipt(heard.first),
            *_receipt(heard.last),
            *((None, None) if heard.placed is None else _receipt(heard.placed)),
            *flat_place(heard.place),
        )
        for node, heard in sorted(nodes.items(), key=itemgetter(0))
    ]


def _receipt(delivery: Delivery) -> Row:
    return utc(delivery.message.received_at_ms), delivery.offset


class _NodeUpdate(Struct):
    """What a batch says about one node: when it was heard, and its newest place."""

    first: Delivery
    last: Delivery
    placed: Delivery | None = None
    place: Place | None = None


def record_row(delivery: Delivery, index: int, record: AnyRecord) -> tuple[str, Row]:
    """Return the table of a record, and its row there."""
    table = TABLES[kind(record)]
    received_at = utc(delivery.message.received_at_ms)
    key = record_key(delivery.key, index) if index else delivery.key
    row = (key, delivery.offset, index, received_at, *flat(record))
    for place in AS_JSON[table]:
        if row[place] is not None:
            row = _with(row, place, msgspec.json.encode(row[place]).decode())
    if delivery.clip_place is not None:
        reference = clips.reference(delivery.clip_place, record)
        for place in REFERENCES[table]:
            row = row if reference is None else _with(row, place, reference)
    return table, row


def _with(row: Row, place: int, value: object) -> Row:
    return (*row[:place], value, *row[place + 1 :])
