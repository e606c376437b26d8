"""`records`: list the records of the journal, show one, and extract a clip.

Records are listed as a table, as JSON Lines, or as CSV with the columns of `columns.py`.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import count, islice
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from msgspec import Struct
from rich.text import Text

from echo_ingest.cli.options import OfKind, OfNode, Since, Until, open_reader, settings_of
from echo_ingest.cli.output import cells, fail, moment, out, print_table, say, table
from echo_ingest.decode import Decoder
from echo_ingest.export.writers import COLUMNS, CsvTable, named, row
from echo_ingest.formatting import duration, utc
from echo_ingest.journal import Entry
from echo_ingest.journal.decoding import Unreadable, decode_entry, selected
from echo_ingest.journal.reader import PAGE_ROWS, JournalReader, Selection
from echo_ingest.payload_view import readable, size
from echo_ingest.record import (
    AnyRecord,
    Clip,
    Detection,
    Health,
    Measurement,
    Movement,
    RecordId,
    Recording,
    Telemetry,
    kind,
    record_key,
)
from echo_ingest.sinks import clips
from echo_ingest.site_decoder import decoder_of

FOLLOW_POLL_SECONDS = 0.5
NAME_CHARACTERS_MAX = 60
RECEIVED_MARK = "*"
"""Stands beside a time that is that of receipt."""
CSV_COLUMNS = tuple(
    column
    for column in dict.fromkeys(each for columns in COLUMNS.values() for each in columns)
    if column.name != "audio_path"
)
"""The columns of all kinds of records together."""


class DecodedRecord(Struct, frozen=True):
    """A record with its message, or a message that gives none."""

    entry: Entry
    index: int
    """The place of the record in the message."""
    record: AnyRecord | Unreadable

    @property
    def id(self) -> str:
        """Return how people name it: by the offset, or by offset and index."""
        return f"{self.entry.offset:,}" + (f"-{self.index}" if self.index else "")


app = typer.Typer(help="List records, show one, or extract a clip.")


@app.callback(invoke_without_command=True)
def records(
    context: typer.Context,
    node: OfNode = None,
    kind: OfKind = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="Show at most the newest N.")] = 20,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON Lines, with times in UTC.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with times in UTC.")] = False,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Oldest first; then print new ones as they arrive."),
    ] = False,
) -> None:
    """List records, newest first; [b]show[/] shows one, [b]clip[/] extracts its audio."""
    if context.invoked_subcommand is not None:
        return
    if as_json and as_csv:
        fail("choose either --json or --csv", 2)
    settings = settings_of(context)
    decoder = decoder_of(settings)
    reader = open_reader(settings, decoder)
    selection = Selection(node, kind and kind.value, since, until)

    def decode(entries: Iterable[Entry]) -> Iterator[DecodedRecord]:
        return decoded_records(decoder, selection, entries)

    marked: list[int] = []
    show = json_lines if as_json else csv_rows() if as_csv else _table_rows(marked)
    if follow:
        try:
            for page in _following(reader, selection, limit, decoder):
                show(page)
        except KeyboardInterrupt:
            raise typer.Exit(0) from None
    shown = show(islice(decode(_newest(reader, selection, limit)), limit))
    if marked:
        say(
            f"{RECEIVED_MARK} the time of receipt, since the device gave none that can be believed;"
            f" `echo-ingest records show {marked[0]}` says why"
        )
    if not shown and not (as_json or as_csv):
        say("there are no records" if selection == Selection() else "no records match the options")


def decoded_records(
    decoder: Decoder, selection: Selection, entries: Iterable[Entry]
) -> Iterator[DecodedRecord]:
    """Yield the selected records of messages, in order."""
    for entry in entries:
        records = decode_entry(decoder, entry)
        if isinstance(records, Unreadable):
            yield DecodedRecord(entry, 0, records)
        else:
            for index, record in selected(selection, records):
                yield DecodedRecord(entry, index, record)


def _newest(reader: JournalReader, selection: Selection, limit: int) -> Iterator[Entry]:
    before, rows = None, max(1, min(limit, PAGE_ROWS))
    while page := reader.newest(selection, rows, before):
        yield from page
        before = page[-1].offset


def _following(
    reader: JournalReader, selection: Selection, limit: int, decoder: Decoder
) -> Iterator[Iterator[DecodedRecord]]:
    # Only where the newest begin is kept: together they may be larger than the memory.
    last = reader.last_offset()
    newest = decoded_records(decoder, selection, _newest(reader, selection, limit))
    for each in islice(newest, limit):
        last = each.entry.offset - 1
    while True:
        arrived = reader.last_offset()
        while page := reader.after(selection, last):
            yield decoded_records(decoder, selection, page)
            last = page[-1].offset
        last = max(last, arrived)
        time.sleep(FOLLOW_POLL_SECONDS)


# ---------------------------------------------------------------------- one record


@app.command()
def show(
    context: typer.Context,
    offset: Annotated[int, typer.Argument(help="The offset of a record.")],
) -> None:
    """Show all records of a message as they were decoded, and the message itself."""
    settings = settings_of(context)
    reader = open_reader(settings)
    entry = _entry(reader, offset)
    message = entry.message
    records = decode_entry(decoder_of(settings), entry)
    several = not isinstance(records, Unreadable) and len(records) > 1
    about = table("~", "+", header=False)
    for name, value in (
        ("offset", f"{offset:,}"),
        ("received", moment(message.received_at_ms)),
        ("node", message.node),
        ("topic", message.topic),
        *((f"property {name}", value) for name, value in message.properties),
        ("size", size(len(message.payload))),
        ("key", entry.key.hex()),
        ("unreadable", records.render() if isinstance(records, Unreadable) else None),
    ):
        if value is not None:
            about.add_row(*cells(name, value))
    for index, record in enumerate(() if isinstance(records, Unreadable) else records):
        of = f" of record {index}" if several else ""
        for name, value in (
            *problems(record).items(),
            ("clip", _kept_at(reader, offset, record)),
        ):
            if value is not None:
                about.add_row(*cells(name + of, value))
    print_table(about)
    for index, record in enumerate(() if isinstance(records, Unreadable) else records):
        title = f"\nrecord {index}:" if several else ""
        out.print(Text(title + "\n" + readable(msgspec.json.encode(record))))
    out.print(Text("\n" + readable(message.payload)))


@app.command()
def clip(
    context: typer.Context,
    record: Annotated[
        str,
        typer.Argument(
            metavar="OFFSET", help="The offset of a record; [b]7-2[/] for record 2 of message 7."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The new file; default: [b]OFFSET.wav[/] (or .flac, …).",
        ),
    ] = None,
) -> None:
    """Write a record's audio to a file, exactly as the device recorded it."""
    which = RecordId.parse(record)
    if which is None:
        fail(f"{record!r:.40} is not the offset of a record, such as 7, or 7-2 for another one", 2)
    settings = settings_of(context)
    entry = _entry(open_reader(settings), which.offset)
    decoder = decoder_of(settings)
    # Not `decode_entry`, which gives up on damaged records: even a damaged clip can be useful.
    records = decoder.decode(entry.message)
    audio = decoder.clip_bytes(entry.message, which.index)
    described = None
    if isinstance(records, tuple) and which.index < len(records):
        described = clips.clip_of(records[which.index])
    if audio is None or described is None:
        fail(
            f"record {which} has no clip; `echo-ingest records --kind recording` lists records "
            "that have one"
        )
    path = output or Path(f"{which}.{described.container}")
    try:
        with path.open("xb") as file:
            file.write(audio)
    except FileExistsError:
        fail(f"{path} already exists; name another file with --output FILE")
    say(f"{path}: {_of_clip(described)}, SHA-256 {described.sha256}")


def problems(record: AnyRecord) -> dict[str, str]:
    """Return in words what of a record is not simply what its message says."""
    words = {}
    problem, clip = record.time_problem, getattr(record, "clip", None)
    if problem is not None:
        wrote = f" The device wrote {record.device_time}." if record.device_time else ""
        words["time"] = f"{problem.summary}{wrote} {problem.advice}"
    elif record.time_source == "received":
        words["time"] = "The message gives no time; it is dated by its receipt."
    if isinstance(clip, Clip) and clip.problem is not None:
        words["sound"] = f"{clip.problem.summary} {clip.problem.advice}"
    if isinstance(record, Detection) and record.observation_type != "animal":
        words["species"] = f"{record.species} names no animal ({record.observation_type})."
    return words


def _kept_at(reader: JournalReader, offset: int, record: AnyRecord) -> str | None:
    place = reader.place_of(clips.CLIP_STORE, offset)
    return None if place is None else clips.reference(place, record)


def _entry(reader: JournalReader, offset: int) -> Entry:
    entry = reader.record(offset)
    if entry is None:
        fail(f"there is no record at offset {offset:,}; the newest is {reader.last_offset():,}")
    return entry


# ---------------------------------------------------------------------- as a table


def _table_rows(marked: list[int]) -> Callable[[Iterable[DecodedRecord]], int]:
    """Return a function that prints tables which align, as `--follow` prints one per page.

    It adds the offsets of records that have the time of receipt to `marked`.
    """
    pages = count()

    def show(decoded: Iterable[DecodedRecord]) -> int:
        page = table(
            "offset>",
            "observed at",
            "node~",
            "sensor~",
            "kind",
            "summary+",
            header=next(pages) == 0,
        )
        for column, columns_min in zip(page.columns, (8, 26, 10, 10, 9, 0), strict=True):
            column.min_width = columns_min
        for each in decoded:
            page.add_row(*cells(*_row(each)))
            if not isinstance(each.record, Unreadable) and each.record.time_source == "received":
                marked.append(each.entry.offset)
        if page.row_count:
            print_table(page)
        return page.row_count

    return show


def _row(decoded: DecodedRecord) -> tuple[object, ...]:
    record, message = decoded.record, decoded.entry.message
    if isinstance(record, Unreadable):
        observed_at = moment(message.received_at_ms)
        return decoded.entry.offset, observed_at, message.node, None, "?", record.render()
    return (
        decoded.id,
        moment(record.observed_at) + RECEIVED_MARK * (record.time_source == "received"),
        record.node,
        record.sensor_id,
        kind(record),
        summary_of(record),
    )


def summary_of(record: AnyRecord) -> str:
    """Return the gist of a record, in a few words."""
    match record:
        case Detection(species=species, confidence=confidence, clip=clip):
            parts = [_cut(species), None if confidence is None else f"{confidence * 100:.3g} %"]
            if record.observation_type != "animal":
                parts.append("(not an animal)")
            return " ".join(filter(None, parts)) + (f", {_of_clip(clip)}" if clip else "")
        case Recording(clip=clip, health=health):
            return _of_clip(clip) + (f", {_of_health(health)}" if health else "")
        case Telemetry(health=health):
            return _of_health(health) or "alive"
        case Movement(species=species, animal_id=animal_id, animal_place=place):
            animal = f"{_cut(species)} {_cut(animal_id)}"
            return f"{animal} at {place.latitude:.5f}, {place.longitude:.5f}"
        case Measurement(name=name, value=value, unit=unit):
            return f"{_cut(name)} {value:g}" + (f" {unit}" if unit else "")


def _cut(name: str) -> str:
    """Return a name that a device gives, cut with an ellipsis where it is very long."""
    return name if len(name) <= NAME_CHARACTERS_MAX else f"{name[: NAME_CHARACTERS_MAX - 1]}…"


def _of_clip(clip: Clip) -> str:
    rate = f"{clip.sample_rate_hz / 1000:g} kHz"
    return f"{clip.container} {rate} {clip.duration_seconds:.1f} s, {size(clip.size_bytes)}"


def _of_health(health: Health) -> str:
    parts = [_cut(health.status)] if health.status else []
    for name, value, unit in (
        ("battery", health.battery_percent, "%"),
        ("CPU", health.cpu_percent, "%"),
        ("memory", health.memory_percent, "%"),
        ("disk", health.disk_percent, "%"),
        ("temperature", health.temperature_celsius, "°C"),
    ):
        if value is not None:
            parts.append(f"{name} {value:g} {unit}")
    if health.external_power:
        parts.append("external power")
    if health.uptime_seconds is not None:
        parts.append(f"up {duration(health.uptime_seconds)}")
    if health.booted_at is not None:
        parts.append(f"booted {moment(health.booted_at)}")
    return ", ".join(parts)


# ---------------------------------------------------------------------- for programs


def json_lines(decoded: Iterable[DecodedRecord]) -> int:
    """Print JSON Lines, each with the journal's fields and then the record's."""
    lines = 0
    for each in decoded:
        entry, record = each.entry, each.record
        fields: dict[str, object] = {
            "offset": entry.offset,
            "index": each.index,
            "key": record_key(entry.key, each.index).hex(),
            "received_at": utc(entry.message.received_at_ms),
            "topic": entry.message.topic,
        }
        if entry.damaged:
            fields["damaged"] = True
        elif isinstance(record, Unreadable):
            fields["rejected"] = record.render()
        if not isinstance(record, Unreadable):
            fields |= msgspec.to_builtins(record, builtin_types=(datetime,))
            if words := problems(record):
                fields["problems"] = words
        sys.stdout.write(msgspec.json.encode(fields).decode() + "\n")
        lines += 1
    sys.stdout.flush()
    return lines


def csv_rows() -> Callable[[Iterable[DecodedRecord]], int]:
    """Print a CSV header; return a function that prints one flat row for each record."""
    table = CsvTable(sys.stdout.buffer, CSV_COLUMNS)

    def show(decoded: Iterable[DecodedRecord]) -> int:
        rows = 0
        for each in decoded:
            table.add_named(_fields(each))
            rows += 1
        sys.stdout.flush()
        return rows

    return show


def _fields(decoded: DecodedRecord) -> dict[str, object]:
    entry, record = decoded.entry, decoded.record
    if not isinstance(record, Unreadable):
        return named(row(entry, decoded.index, record, None))
    return {
        "kind": "?",
        "node": entry.message.node,
        "received_at": utc(entry.message.received_at_ms),
        "topic": entry.message.topic,
        "offset": entry.offset,
        "index": decoded.index,
        "key": entry.key.hex(),
    }
