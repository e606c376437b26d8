"""`records`: what the journal holds, decoded."""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from echo_ingest.cli.options import OfKind, OfNode, Since, Until, archive_of, settings_of
from echo_ingest.cli.output import cells, duration, fail, moment, out, say, table
from echo_ingest.cli.record_output import Seen, csv_rows, json_lines
from echo_ingest.decode import Decoder, clip_bytes
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


app = typer.Typer(help="List what was stored, show one record, take a clip out.")


@app.callback(invoke_without_command=True)
def records(
    context: typer.Context,
    node: OfNode = None,
    kind: OfKind = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=0, help="How many of the newest.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines, times in UTC.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV, times in UTC.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Oldest first, then each as it arrives.")
    ] = False,
) -> None:
    """List records, newest first; show one; take a clip out of one."""
    if context.invoked_subcommand is not None:
        return
    if as_json and as_csv:
        fail("choose one of --json and --csv", 2)
    settings = settings_of(context)
    archive = archive_of(settings)
    selection = Selection(node, kind and kind.value, since, until)

    decoder = Decoder(settings.payload_bytes_max)

    def seen(entries: Iterable[Entry]) -> Iterator[Seen]:
        return ((entry, decode_entry(decoder, entry)) for entry in entries)

    show = json_lines if as_json else csv_rows() if as_csv else _table_rows()
    if follow:
        try:
            for page in _following(archive, selection, limit):
                show(seen(page))
        except KeyboardInterrupt:
            raise typer.Exit(0) from None
    shown = show(seen(_newest(archive, selection, limit)))
    if not shown and not (as_json or as_csv):
        say("no records" if selection == Selection() else "no records match")


def _newest(archive: JournalReader, selection: Selection, limit: int) -> Iterator[Entry]:
    before = None
    while limit and (page := archive.newest(selection, min(limit, PAGE_ROWS), before)):
        yield from page
        limit -= len(page)
        before = page[-1].offset


def _following(archive: JournalReader, selection: Selection, limit: int) -> Iterator[list[Entry]]:
    last = archive.last_offset()
    yield list(_newest(archive, selection, limit))[::-1]
    while True:
        arrived = archive.last_offset()
        while page := archive.after(selection, last):
            yield page
            last = page[-1].offset
        last = max(last, arrived)
        time.sleep(FOLLOW_POLL_SECONDS)


# ---------------------------------------------------------------------- one record


@app.command()
def show(
    context: typer.Context, offset: Annotated[int, typer.Argument(help="Which record.")]
) -> None:
    """Show one record: what it was decoded to, and the message as it came."""
    settings = settings_of(context)
    archive = archive_of(settings)
    entry = _entry(archive, offset)
    message = entry.message
    record = decode_entry(Decoder(settings.payload_bytes_max), entry)
    about = table("", "+", header=False)
    for name, value in (
        ("offset", f"{offset:,}"),
        ("received", moment(message.received_at_ms)),
        ("node", message.node),
        ("topic", message.topic),
        *((f"property {name}", value) for name, value in message.properties),
        ("size", size(len(message.payload))),
        ("key", entry.key.hex()),
        ("unreadable", record.render() if isinstance(record, Unreadable) else None),
        ("clip", _kept_at(archive, offset, record)),
    ):
        if value is not None:
            about.add_row(*cells(name, value))
    out.print(about)
    if not isinstance(record, Unreadable):
        out.print(Text("\n" + readable(msgspec.json.encode(record))))
    out.print(Text("\n" + readable(message.payload)))


@app.command()
def clip(
    context: typer.Context,
    offset: Annotated[int, typer.Argument(help="Which record.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="By default [b]OFFSET.wav[/] or so."),
    ] = None,
) -> None:
    """Write a record's audio to a file, byte for byte as the device recorded it."""
    settings = settings_of(context)
    entry = _entry(archive_of(settings), offset)
    # Not `decode_entry`: what is left of a damaged clip may be all that its owner can still have.
    record = Decoder(settings.payload_bytes_max).decode(entry.message)
    audio = clip_bytes(entry.message)
    described = getattr(record, "clip", None)
    if audio is None or not isinstance(described, Clip):
        fail(f"record {offset:,} has no clip; `echo-ingest records --kind recording` lists some")
    path = output or Path(f"{offset}.{described.container}")
    try:
        with path.open("xb") as file:
            file.write(audio)
    except FileExistsError:
        fail(f"{path} exists already; name another with --output FILE")
    say(f"{path}: {_of_clip(described)}, SHA-256 {described.sha256}")


def _kept_at(archive: JournalReader, offset: int, record: AnyRecord | Unreadable) -> str | None:
    place = archive.place_of(clips.CLIP_STORE, offset)
    if place is None or isinstance(record, Unreadable):
        return None
    return clips.reference(place, record)


def _entry(archive: JournalReader, offset: int) -> Entry:
    entry = archive.record(offset)
    if entry is None:
        fail(f"there is no record at offset {offset:,}; the newest is {archive.last_offset():,}")
    return entry


# ---------------------------------------------------------------------- ways to show many


def _table_rows() -> Callable[[Iterable[Seen]], int]:
    """Tables that align with each other: `--follow` prints one for each page."""
    pages = count()

    def show(seen: Iterable[Seen]) -> int:
        page = table(
            "offset>", "observed at", "node", "sensor", "kind", "what+", header=next(pages) == 0
        )
        for column, columns_min in zip(page.columns, (8, 25, 10, 10, 9, 0), strict=True):
            column.min_width = columns_min
        for entry, record in seen:
            page.add_row(*cells(*_row(entry, record)))
        if page.row_count:
            out.print(page)
        return page.row_count

    return show


def _row(entry: Entry, record: AnyRecord | Unreadable) -> tuple[object, ...]:
    if isinstance(record, Unreadable):
        observed_at = moment(entry.message.received_at_ms)
        return entry.offset, observed_at, entry.message.node, None, "?", record.render()
    said = what(record)
    observed_at = moment(record.observed_at)
    return f"{entry.offset:,}", observed_at, record.node, record.sensor_id, kind(record), said


def what(record: AnyRecord) -> str:
    """The gist of a record, in a few words."""
    match record:
        case Detection(species=species, confidence=confidence, clip=clip):
            parts = [species, None if confidence is None else f"{confidence * 100:.3g} %"]
            return " ".join(filter(None, parts)) + (f", {_of_clip(clip)}" if clip else "")
        case Recording(clip=clip, health=health):
            return _of_clip(clip) + (f", {_of_health(health)}" if health else "")
        case Telemetry(health=health):
            return _of_health(health) or "alive"
        case Movement(species=species, animal_id=animal_id, animal_place=place):
            return f"{species} {animal_id} at {place.latitude:.5f}, {place.longitude:.5f}"


def _of_clip(clip: Clip) -> str:
    rate = f"{clip.sample_rate_hz / 1000:g} kHz"
    return f"{clip.container} {rate} {clip.duration_seconds:.1f} s, {size(clip.size_bytes)}"


def _of_health(health: Health) -> str:
    parts = [
        health.status,
        *(
            None if value is None else f"{name} {value:g}{unit}"
            for name, value, unit in (
                ("battery", health.battery_percent, " %"),
                ("CPU", health.cpu_percent, " %"),
                ("memory", health.memory_percent, " %"),
                ("disk", health.disk_percent, " %"),
                ("temperature", health.temperature_celsius, " °C"),
            )
        ),
        None if health.uptime_seconds is None else f"up {duration(health.uptime_seconds)}",
        None if health.booted_at is None else f"booted {moment(health.booted_at)}",
    ]
    return ", ".join(filter(None, parts))
