"""Records for programs: JSON Lines, and CSV with flat columns. Times are in UTC."""

import csv
import io
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec

from echo_ingest.journal import Entry
from echo_ingest.record import AnyRecord, Clip, Health, Place, Rejected, kind

Seen = tuple[Entry, AnyRecord | Rejected]


def json_lines(seen: Iterable[Seen]) -> int:
    """JSON Lines: the record's fields and, before them, the journal's."""
    lines = 0
    for entry, record in seen:
        fields: dict[str, object] = {
            "offset": entry.offset,
            "key": entry.key.hex(),
            "received_at": datetime.fromtimestamp(entry.message.received_at_ms / 1000, UTC),
            "topic": entry.message.topic,
        }
        if entry.damaged:
            fields["damaged"] = True
        if isinstance(record, Rejected):
            fields["rejected"] = record.reason
        else:
            fields |= msgspec.to_builtins(record, builtin_types=(datetime,))
        sys.stdout.write(msgspec.json.encode(fields).decode() + "\n")
        lines += 1
    sys.stdout.flush()
    return lines


CSV_COLUMNS = (
    "offset", "received_at", "observed_at", "time_source", "node", "sensor_id", "kind", "form",
    "message_id", "latitude", "longitude", "altitude_metres", "species", "confidence",
    "animal_id", "animal_latitude", "animal_longitude", "container", "duration_seconds",
    "sample_rate_hz", "channels", "size_bytes", "sha256", "status", "battery_percent",
    "temperature_celsius", "topic",
)  # fmt: skip


def csv_rows() -> Callable[[Iterable[Seen]], int]:
    """CSV, RFC 4180: a header, then one flat row a record."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, restval="", extrasaction="ignore")
    writer.writeheader()

    def show(seen: Iterable[Seen]) -> int:
        rows = 0
        for entry, record in seen:
            writer.writerow(_flat(entry, record))
            rows += 1
        sys.stdout.write(text.getvalue())
        sys.stdout.flush()
        text.seek(0)
        text.truncate()
        return rows

    return show


def _flat(entry: Entry, record: AnyRecord | Rejected) -> dict[str, object]:
    """One level of fields; those a kind does not have are left out."""
    received_at = datetime.fromtimestamp(entry.message.received_at_ms / 1000, UTC)
    row: dict[str, object] = {
        "offset": entry.offset,
        "received_at": _utc(received_at),
        "topic": entry.message.topic,
    }
    if isinstance(record, Rejected):
        return row | {"node": entry.message.node, "kind": "?"}
    fields = msgspec.structs.asdict(record)
    for part, prefix in (("place", ""), ("animal_place", "animal_"), ("clip", ""), ("health", "")):
        inner = fields.get(part)
        if isinstance(inner, Place | Clip | Health):
            row |= {prefix + name: value for name, value in msgspec.structs.asdict(inner).items()}
    return row | fields | {"kind": kind(record), "observed_at": _utc(record.observed_at)}


def _utc(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
