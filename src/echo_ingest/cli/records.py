"""`records`: list the records of the journal, show one, and extract a clip.

Records are listed as a table, as JSON Lines, or as CSV with the columns of `columns.py`.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from echo_ingest.broker.node_rules import decoder_of
from echo_ingest.cli.options import OfKind, OfNode, Since, Until, open_reader, settings_of
from echo_ingest.cli.output import cells, fail, moment, out, print_table, say, table
from echo_ingest.decode import clip_bytes
from echo_ingest.export.writers import COLUMNS, CsvTable, named, row
from echo_ingest.formatting import duration, utc
from echo_ingest.journal import Entry
from echo_ingest.journal.decoding import Unreadable, decode_entry
from echo_ingest.journal.reader import PAGE_ROWS, JournalReader, Selection
from echo_ingest.payload_view import readable, size
from echo_ingest.record import (
    AnyRecord,
    Clip,
    Detection,
    Health,
    Movement,
    Recording,
    Telemetry,
    kind,
)
from echo_ingest.sinks import clips

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

DecodedEntry = tuple[Entry, AnyRecord | Unreadable]

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

    def decode(entries: Iterable[Entry]) -> Iterator[DecodedEntry]:
        return ((entry, decode_entry(decoder, entry)) for entry in entries)

    marked: list[int] = []
    show = json_lines if as_json else csv_rows() if as_csv else _table_rows(marked)
    if follow:
        try:
            for page in _following(reader, selection, limit):
                show(decode(page))
        except KeyboardInterrupt:
            raise typer.Exit(0) from None
    shown = show(decode(_newest(reader, selection, limit)))
    if marked:
        say(
            f"{RECEIVED_MARK} the time of receipt, since the device gave none that can be believed;"
            f" `echo-ingest records show {marked[0]}` says why"
        )
    if not shown and not (as_json or as_csv):
        say("there are no records" if selection == Selection() else "no records match the options")


def _newest(reader: JournalReader, selection: Selection, limit: int) -> Iterator[Entry]:
    before = None
    while limit and (page := reader.newest(selection, min(limit, PAGE_ROWS), before)):
        yield from page
        limit -= len(page)
        before = page[-1].offset


def _following(reader: JournalReader, selection: Selection, limit: int) -> Iterator[list[Entry]]:
    # Only where the newest begin is kept: together they may be larger than the memory.
    last = reader.last_offset()
    for entry in _newest(reader, selection, limit):
        last = entry.offset - 1
    while True:
        arrived = reader.last_offset()
        while page := reader.after(selection, last):
            yield page
            last = page[-1].offset
        last = max(last, arrived)
        time.sleep(FOLLOW_POLL_SECONDS)


# ---------------------------------------------------------------------- one record


@app.command()
def show(
    context: typer.Context,
    offset: Annotated[int, typer.Argument(help="The offset of a record.")],
) -> None:
    """Show a record as it was decoded, and the message itself."""
    settings = settings_of(context)
    reader = open_reader(settings)
    entry = _entry(reader, offset)
    message = entry.message
    record = decode_entry(decoder_of(settings), entry)
    about = table("~", "+", header=False)
    for name, value in (
        ("offset", f"{offset:,}"),
        ("received", moment(message.received_at_ms)),
        ("node", message.node),
        ("topic", message.topic),
        *((f"property {name}", value) for name, value in message.properties),
        ("size", size(len(message.payload))),
        ("key", entry.key.hex()),
        ("unreadable", record.render() if isinstance(record, Unreadable) else None),
        *(problems(record) if not isinstance(record, Unreadable) else {}).items(),
        ("clip", _kept_at(reader, offset, record)),
    ):
        if value is not None:
            about.add_row(*cells(name, value))
    print_table(about)
    if not isinstance(record, Unreadable):
        out.print(Text("\n" + readable(msgspec.json.encode(record))))
    out.print(Text("\n" + readable(message.payload)))


@app.command()
def clip(
    context: typer.Context,
    offset: Annotated[int, typer.Argument(help="The offset of a record.")],
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
    settings = settings_of(context)
    entry = _entry(open_reader(settings), offset)
    # Not `decode_entry`, which gives up on damaged records: even a damaged clip can be useful.
    record = decoder_of(settings).decode(entry.message)
    audio = clip_bytes(entry.message)
    described = getattr(record, "clip", None)
    if audio is None or not isinstance(described, Clip):
        fail(
            f"record {offset:,} has no clip; `echo-ingest records --kind recording` lists records "
            "that have one"
        )
    path = output or Path(f"{offset}.{described.container}")
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


def _kept_at(reader: JournalReader, offset: int, record: AnyRecord | Unreadable) -> str | None:
    place = reader.place_of(clips.CLIP_STORE, offset)
    if place is None or isinstance(record, Unreadable):
        return None
    return clips.reference(place, record)


def _entry(reader: JournalReader, offset: int) -> Entry:
    entry = reader.record(offset)
    if entry is None:
        fail(f"there is no record at offset {offset:,}; the newest is {reader.last_offset():,}")
    return entry


# ---------------------------------------------------------------------- as a table


def _table_rows(marked: list[int]) -> Callable[[Iterable[DecodedEntry]], int]:
    """Return a function that prints tables which align, as `--follow` prints one per page.

    It adds the offsets of records that have the time of receipt to `marked`.
    """
    pages = count()

    def show(decoded: Iterable[DecodedEntry]) -> int:
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
        for entry, record in decoded:
            page.add_row(*cells(*_row(entry, record)))
            if not isinstance(record, Unreadable) and record.time_source == "received":
                marked.append(entry.offset)
        if page.row_count:
            print_table(page)
        return page.row_count

    return show


def _row(entry: Entry, record: AnyRecord | Unreadable) -> tuple[object, ...]:
    if isinstance(record, Unreadable):
        observed_at = moment(entry.message.received_at_ms)
        return entry.offset, observed_at, entry.message.node, None, "?", record.render()
    return (
        f"{entry.offset:,}",
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


def json_lines(decoded: Iterable[DecodedEntry]) -> int:
    """Print JSON Lines, each with the journal's fields and then the record's."""
    lines = 0
    for entry, record in decoded:
        fields: dict[str, object] = {
            "offset": entry.offset,
            "key": entry.key.hex(),
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


def csv_rows() -> Callable[[Iterable[DecodedEntry]], int]:
    """Print a CSV header; return a function that prints one flat row for each record."""
    table = CsvTable(sys.stdout.buffer, CSV_COLUMNS)

    def show(decoded: Iterable[DecodedEntry]) -> int:
        rows = 0
        for entry, record in decoded:
            table.add_named(_fields(entry, record))
            rows += 1
        sys.stdout.flush()
        return rows

    return show


def _fields(entry: Entry, record: AnyRecord | Unreadable) -> dict[str, object]:
    if not isinstance(record, Unreadable):
        return named(row(entry, record, None))
    return {
        "kind": "?",
        "node": entry.message.node,
        "received_at": utc(entry.message.received_at_ms),
        "topic": entry.message.topic,
        "offset": entry.offset,
        "key": entry.key.hex(),
    }
