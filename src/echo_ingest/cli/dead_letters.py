"""`dead-letters`: list, show, retry, discard and export the messages that were rejected."""

import base64
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from echo_ingest.admin import dead_letters as admin
from echo_ingest.admin import journal_of
from echo_ingest.cli.options import OfNode, WithReason, given_time, open_reader, settings_of
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
from echo_ingest.formatting import counted, milliseconds
from echo_ingest.journal.entries import DeadLetterEntry
from echo_ingest.journal.reader import JournalReader
from echo_ingest.payload_view import readable, size
from echo_ingest.record import DeadLetter, Duplicate, Ignored, Stored
from echo_ingest.site_decoder import decoder_of

REASONS_SHOWN_MAX = 20

app = typer.Typer(help="List, show, retry, discard and export messages that were rejected.")


@app.command("list")
def list_dead_letters(
    context: typer.Context,
    node: OfNode = None,
    reason: WithReason = None,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="Show at most the newest N.")] = 20,
) -> None:
    """List dead letters with their reasons, newest first."""
    reader = open_reader(settings_of(context))
    shown = table("id>", "received", "node~", "topic~", "size>", "reason+")
    for dead_letter in islice(reader.dead_letters(0, node, reason, newest_first=True), limit):
        message = dead_letter.message
        shown.add_row(
            *cells(
                dead_letter.id,
                moment(message.received_at_ms),
                message.node,
                message.topic,
                size(len(message.payload)),
                dead_letter.reason,
            )
        )
    if shown.row_count:
        print_table(shown)
    say(f"{shown.row_count:,} of {reader.count_dead_letters(node, reason):,} dead letters")


@app.command()
def show(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", help="The id of a dead letter.")],
    raw: Annotated[
        bool, typer.Option("--raw", help="Print only the payload, unchanged, for a pipe or a file.")
    ] = False,
) -> None:
    """Show why a message was rejected, and the message itself."""
    dead_letter = _dead_letter(open_reader(settings_of(context)), number)
    message = dead_letter.message
    if raw:
        typer.echo(message.payload, nl=False)
        return
    about = table("~", "+", header=False)
    for name, value in (
        ("id", dead_letter.id),
        ("reason", dead_letter.reason),
        (
            "damaged",
            "the disk returned other bytes than were stored" if dead_letter.damaged else None,
        ),
        ("received", moment(message.received_at_ms)),
        ("node", message.node),
        ("topic", message.topic),
        *((f"property {name}", value) for name, value in message.properties),
        ("size", size(len(message.payload))),
    ):
        if value is not None:
            about.add_row(*cells(name, value))
    print_table(about)
    out.print(Text("\n" + readable(message.payload)))


@app.command()
def replay(
    context: typer.Context,
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="ID", help="The ids of dead letters.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Retry all of them.")] = False,
    node: OfNode = None,
    reason: WithReason = None,
) -> None:
    """Decode dead letters again with this version, and store those that are valid now.

    The others stay dead letters. The service may be running.
    """
    settings = settings_of(context)
    reader = open_reader(settings)
    chosen: Iterable[DeadLetterEntry]
    if numbers and not (every or node or reason):
        numbers = list(dict.fromkeys(numbers))
        for number in numbers:
            _dead_letter(reader, number)  # all of them, before the first is stored
        chosen = (_dead_letter(reader, number) for number in numbers)
        total = len(numbers)
    elif (every or node or reason) and not numbers:
        chosen = reader.dead_letters(0, node, reason)
        total = reader.count_dead_letters(node, reason)
    else:
        fail("choose dead letters: give ids, or else --all, --node or --reason TEXT", 2)
    with closing(journal_of(settings)) as journal:
        retried = progressed(chosen, total, "replaying")
        stored = duplicates = ignored = 0
        reasons = Counter[str]()
        for outcome in admin.replay(journal, retried, decoder_of(settings)):
            stored += isinstance(outcome, Stored)
            duplicates += isinstance(outcome, Duplicate)
            ignored += isinstance(outcome, Ignored)
            if isinstance(outcome, DeadLetter):
                reasons[outcome.rejected.render()] += 1
    say(
        f"{stored:,} stored, {counted(duplicates, 'duplicates')}, "
        + (f"{ignored:,} ignored, " if ignored else "")
        + f"{reasons.total():,} rejected again"
    )
    if reasons:
        shown = table("rejected again>", "reason+")
        for reason_text, count in reasons.most_common(REASONS_SHOWN_MAX):
            shown.add_row(*cells(f"{count:,}", reason_text))
        print_table(shown)
        if len(reasons) > REASONS_SHOWN_MAX:
            say(f"and {counted(len(reasons) - REASONS_SHOWN_MAX, 'more reasons')}")


@app.command()
def discard(
    context: typer.Context,
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="ID", help="The ids of dead letters.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Discard all of them.")] = False,
    node: OfNode = None,
    reason: WithReason = None,
    before: Annotated[
        datetime | None,
        typer.Option(
            parser=given_time,
            metavar="TIME",
            help="Only those received before this time; [b]30d[/] is thirty days before now.",
        ),
    ] = None,
) -> None:
    """Remove dead letters for good: they are counted, by reason, and not kept.

    `dead-letters export` saves them first. The service may be running.
    """
    settings = settings_of(context)
    reader = open_reader(settings)
    by_choice = bool(every or node or reason or before)
    if bool(numbers) == by_choice:
        fail("choose dead letters: give ids, or else --all, --node, --reason TEXT or --before", 2)
    if numbers:
        ids = list(dict.fromkeys(numbers))
        for number in ids:
            _dead_letter(reader, number)  # all of them, before the first is discarded
    else:
        ids = reader.dead_letter_ids(node, reason, *([milliseconds(before)] if before else []))
    with closing(journal_of(settings)) as journal:
        discarded = sum(admin.discard(journal, progressed(ids, len(ids), "discarding")))
    say(f"{counted(discarded, 'dead letters')} discarded")


@app.command()
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The new file.")],
    node: OfNode = None,
    reason: WithReason = None,
) -> None:
    """Write dead letters to a JSON Lines file, with their payloads as base64.

    They stay in the journal.
    """
    reader = open_reader(settings_of(context))
    dead_letters = reader.dead_letters(0, node, reason)
    total = reader.count_dead_letters(node, reason)
    write_lines(file, progressed(map(_line, dead_letters), total, "exporting"))


def _line(dead_letter: DeadLetterEntry) -> dict[str, object]:
    message = dead_letter.message
    return {
        "id": dead_letter.id,
        "reason": dead_letter.reason,
        "received_at_ms": message.received_at_ms,
        "node": message.node,
        "topic": message.topic,
        "properties": message.properties,
        "payload_base64": base64.b64encode(message.payload).decode(),
    }


def _dead_letter(reader: JournalReader, number: int) -> DeadLetterEntry:
    dead_letter = reader.dead_letter(number)
    if dead_letter is None:
        fail(f"there is no dead letter {number:,}; a replay may have stored it")
    return dead_letter
