"""`parked`: records that a sink refused, waiting for a person."""

import base64
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from echo_ingest.admin import journal_of
from echo_ingest.admin.dead_letters import request_replay
from echo_ingest.cli.options import archive_of, settings_of
from echo_ingest.cli.output import cells, fail, moment, out, progressed, say, table, write_lines
from echo_ingest.decode import Decoder
from echo_ingest.journal import Entry
from echo_ingest.journal.decoding import Unreadable, decode_entry
from echo_ingest.journal.reader import JournalReader, Parked
from echo_ingest.payload_view import readable, size

Sink = Annotated[str | None, typer.Option(help="Only what this sink refused.")]
Node = Annotated[str | None, typer.Option(help="Only what this node sent.")]
Reason = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only where the reason says this.")
]

app = typer.Typer(help="Records that a sink refused: list, show, replay, export.")


@app.command("list")
def list_parked(
    context: typer.Context,
    sink: Sink = None,
    node: Node = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=0, help="How many of the newest.")] = 20,
) -> None:
    """List parked records, newest first, each with the sink's own words."""
    archive = archive_of(settings_of(context))
    shown = table("offset>", "sink", "parked", "node", "topic", "size>", "tries>", "reason+")
    for parked in islice(archive.parked(sink, node, reason, newest_first=True), limit):
        shown.add_row(
            *cells(
                f"{parked.offset:,}",
                parked.sink,
                moment(parked.parked_at_ms),
                parked.node,
                parked.topic,
                size(parked.size_bytes),
                parked.attempts,
                parked.reason + (" (replay requested)" if parked.replay_requested else ""),
            )
        )
    if shown.row_count:
        out.print(shown)
    say(f"{shown.row_count:,} of {archive.count_parked(sink, node, reason):,} parked records")


@app.command()
def show(
    context: typer.Context,
    offset: Annotated[int, typer.Argument(help="Which record.")],
    sink: Sink = None,
) -> None:
    """Show why a sink refused a record, and the message as it came."""
    archive = archive_of(settings_of(context))
    for parked in _parked(archive, offset, sink):
        entry = _entry(archive, offset)
        about = table("", "+", header=False)
        for name, value in (
            ("offset", f"{parked.offset:,}"),
            ("sink", parked.sink),
            ("reason", parked.reason),
            ("parked", moment(parked.parked_at_ms)),
            ("tries", parked.attempts),
            ("replay", "requested" if parked.replay_requested else None),
            ("received", moment(entry.message.received_at_ms)),
            ("node", parked.node),
            ("topic", parked.topic),
            ("size", size(parked.size_bytes)),
        ):
            if value is not None:
                about.add_row(*cells(name, value))
        out.print(about)
        out.print(Text("\n" + readable(entry.message.payload)))


@app.command()
def replay(
    context: typer.Context,
    offsets: Annotated[
        list[int] | None, typer.Argument(metavar="OFFSET", help="Which records.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    sink: Sink = None,
    node: Node = None,
    reason: Reason = None,
) -> None:
    """Have parked records offered to their sink again.

    The running service delivers them, or parks them anew; `echo-ingest status` shows how many
    are still in the backlog.
    """
    settings = settings_of(context)
    archive = archive_of(settings)
    chosen: Iterable[Parked]
    if offsets and not (every or node or reason):
        chosen = [parked for offset in offsets for parked in _parked(archive, offset, sink)]
        total = len(chosen)
    elif (every or sink or node or reason) and not offsets:
        chosen = archive.parked(sink, node, reason)
        total = archive.count_parked(sink, node, reason)
    else:
        fail("say which: either offsets, or --all, --sink, --node or --reason TEXT", 2)
    with closing(journal_of(settings)) as journal:
        requested = sum(request_replay(journal, progressed(chosen, total, "requesting")))
    say(f"{requested:,} will be offered again by the running service; see `echo-ingest status`")


@app.command()
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A new file, for JSON Lines.")],
    sink: Sink = None,
    node: Node = None,
    reason: Reason = None,
) -> None:
    """Write parked records to a JSON Lines file: decoded, and the payload as base64.

    They stay parked.
    """
    settings = settings_of(context)
    archive = archive_of(settings)
    rows = progressed(
        archive.parked(sink, node, reason), archive.count_parked(sink, node, reason), "exporting"
    )
    decoder = Decoder(settings.payload_bytes_max)
    write_lines(file, (_line(row, _entry(archive, row.offset), decoder) for row in rows))


def _line(parked: Parked, entry: Entry, decoder: Decoder) -> dict[str, object]:
    record = decode_entry(decoder, entry)
    return {
        **msgspec.structs.asdict(parked),
        "received_at_ms": entry.message.received_at_ms,
        "properties": entry.message.properties,
        "record": None if isinstance(record, Unreadable) else record,
        "payload_base64": base64.b64encode(entry.message.payload).decode(),
    }


def _parked(archive: JournalReader, offset: int, sink: str | None) -> list[Parked]:
    found = archive.parked_at(offset, sink)
    if not found:
        fail(f"record {offset:,} is not parked; `echo-ingest parked list` shows those that are")
    return found


def _entry(archive: JournalReader, offset: int) -> Entry:
    entry = archive.record(offset)
    if entry is None:  # delivered since, and removed by retention
        fail(f"record {offset:,} is not there any more; try again")
    return entry
