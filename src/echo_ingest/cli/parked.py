"""`parked`: list, show, retry and export the records that a sink refused."""

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
from echo_ingest.cli.options import OfNode, WithReason, open_reader, settings_of
from echo_ingest.cli.output import (
    cells,
    fail,
    moment,
    out,
    print_table,
    progressed,
    say,
    table,
    write_lines,
)
from echo_ingest.decode import Decoder
from echo_ingest.formatting import counted
from echo_ingest.journal import Entry
from echo_ingest.journal.decoding import Unreadable, decode_entry
from echo_ingest.journal.reader import JournalReader, Parked
from echo_ingest.payload_view import readable, size
from echo_ingest.site_decoder import decoder_of

OfSink = Annotated[
    str | None,
    typer.Option("--sink", metavar="NAME", help="Only records that this sink refused."),
]

app = typer.Typer(help="List, show, retry and export records that a sink refused.")


@app.command("list")
def list_parked(
    context: typer.Context,
    sink: OfSink = None,
    node: OfNode = None,
    reason: WithReason = None,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="Show at most the newest N.")] = 20,
) -> None:
    """List parked records with the sinks' reasons, newest first."""
    reader = open_reader(settings_of(context))
    shown = table("offset>", "sink", "parked", "node~", "topic~", "size>", "attempts>", "reason+")
    for parked in islice(reader.parked(sink, node, reason, newest_first=True), limit):
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
        print_table(shown)
    say(f"{shown.row_count:,} of {reader.count_parked(sink, node, reason):,} parked records")


@app.command()
def show(
    context: typer.Context,
    offset: Annotated[int, typer.Argument(help="The offset of a record.")],
    sink: OfSink = None,
) -> None:
    """Show why a sink refused a record, and the message itself."""
    reader = open_reader(settings_of(context))
    for parked in _parked(reader, offset, sink):
        entry = _entry(reader, offset)
        about = table("~", "+", header=False)
        for name, value in (
            ("offset", f"{parked.offset:,}"),
            ("sink", parked.sink),
            ("reason", parked.reason),
            ("parked", moment(parked.parked_at_ms)),
            ("attempts", parked.attempts),
            ("replay", "requested" if parked.replay_requested else None),
            ("received", moment(entry.message.received_at_ms)),
            ("node", parked.node),
            ("topic", parked.topic),
            ("size", size(parked.size_bytes)),
        ):
            if value is not None:
                about.add_row(*cells(name, value))
        print_table(about)
        out.print(Text("\n" + readable(entry.message.payload)))


@app.command()
def replay(
    context: typer.Context,
    offsets: Annotated[
        list[int] | None, typer.Argument(metavar="OFFSET", help="The offsets of records.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Retry all of them.")] = False,
    sink: OfSink = None,
    node: OfNode = None,
    reason: WithReason = None,
) -> None:
    """Offer parked records to their sink again.

    The service does this while it runs: it delivers them, or parks them
    again if the sink refuses them again. `echo-ingest status` shows how many
    are still in the backlog.
    """
    settings = settings_of(context)
    reader = open_reader(settings)
    chosen: Iterable[Parked]
    if offsets and not (every or node or reason):
        chosen = [parked for offset in offsets for parked in _parked(reader, offset, sink)]
        total = len(chosen)
    elif (every or sink or node or reason) and not offsets:
        chosen = reader.parked(sink, node, reason)
        total = reader.count_parked(sink, node, reason)
    else:
        fail("choose records: give offsets, or else --all, --sink, --node or --reason TEXT", 2)
    with closing(journal_of(settings)) as journal:
        requested = sum(request_replay(journal, progressed(chosen, total, "requesting")))
    say(
        f"the service will offer {counted(requested, 'records')} again while it runs; "
        "see `echo-ingest status`"
    )


@app.command()
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The new file.")],
    sink: OfSink = None,
    node: OfNode = None,
    reason: WithReason = None,
) -> None:
    """Write parked records to a JSON Lines file, decoded and with their payloads as base64.

    They stay parked.
    """
    settings = settings_of(context)
    reader = open_reader(settings)
    rows = progressed(
        reader.parked(sink, node, reason), reader.count_parked(sink, node, reason), "exporting"
    )
    decoder = decoder_of(settings)
    write_lines(file, (_line(row, _entry(reader, row.offset), decoder) for row in rows))


def _line(parked: Parked, entry: Entry, decoder: Decoder) -> dict[str, object]:
    records = decode_entry(decoder, entry)
    decoded: dict[str, object] = {"record": None}
    if not isinstance(records, Unreadable):
        decoded = {"record": records[0]} | ({"records": records} if len(records) > 1 else {})
    return {
        **msgspec.structs.asdict(parked),
        "received_at_ms": entry.message.received_at_ms,
        "properties": entry.message.properties,
        **decoded,
        "payload_base64": base64.b64encode(entry.message.payload).decode(),
    }


def _parked(reader: JournalReader, offset: int, sink: str | None) -> list[Parked]:
    parked = reader.parked_at(offset, sink)
    if not parked:
        fail(f"record {offset:,} is not parked; `echo-ingest parked list` shows those that are")
    return parked


def _entry(reader: JournalReader, offset: int) -> Entry:
    entry = reader.record(offset)
    if entry is None:  # it was delivered meanwhile, and retention removed it
        fail(f"record {offset:,} was removed in the meantime; type the command again")
    return entry
