"""`dead-letters`: messages that were never valid, kept as they came."""

import base64
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from echo_ingest.admin import dead_letters as admin
from echo_ingest.admin import journal_of
from echo_ingest.cli.options import archive_of, settings_of
from echo_ingest.cli.output import cells, fail, moment, out, progressed, say, table, write_lines
from echo_ingest.decode import Decoder
from echo_ingest.journal.entries import DeadLetterEntry
from echo_ingest.journal.reader import JournalReader
from echo_ingest.payload_view import readable, size
from echo_ingest.record import DeadLetter, Duplicate, Stored

REASONS_SHOWN_MAX = 20

Node = Annotated[str | None, typer.Option(help="Only what this node sent.")]
Reason = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only where the reason says this.")
]

app = typer.Typer(help="Messages that were never valid: list, show, replay, export.")


@app.command("list")
def list_letters(
    context: typer.Context,
    node: Node = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=0, help="How many of the newest.")] = 20,
) -> None:
    """List dead letters, newest first, each with its reason."""
    archive = archive_of(settings_of(context))
    letters = table("id>", "received", "node", "topic", "size>", "reason+")
    for letter in islice(archive.dead_letters(0, node, reason, newest_first=True), limit):
        message = letter.message
        letters.add_row(
            *cells(
                letter.id,
                moment(message.received_at_ms),
                message.node,
                message.topic,
                size(len(message.payload)),
                letter.reason,
            )
        )
    if letters.row_count:
        out.print(letters)
    say(f"{letters.row_count:,} of {archive.count_dead_letters(node, reason):,} dead letters")


@app.command()
def show(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", help="Which dead letter.")],
    raw: Annotated[
        bool, typer.Option("--raw", help="Only the payload, byte for byte; for a pipe or a file.")
    ] = False,
) -> None:
    """Show why a message is a dead letter, and the message as it came."""
    letter = _letter(archive_of(settings_of(context)), number)
    message = letter.message
    if raw:
        typer.echo(message.payload, nl=False)
        return
    about = table("", "+", header=False)
    for name, value in (
        ("id", letter.id),
        ("reason", letter.reason),
        ("damaged", "it is not what was stored" if letter.damaged else None),
        ("received", moment(message.received_at_ms)),
        ("node", message.node),
        ("topic", message.topic),
        *((f"property {name}", value) for name, value in message.properties),
        ("size", size(len(message.payload))),
    ):
        if value is not None:
            about.add_row(*cells(name, value))
    out.print(about)
    out.print(Text("\n" + readable(message.payload)))


@app.command()
def replay(
    context: typer.Context,
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="ID", help="Which dead letters.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    node: Node = None,
    reason: Reason = None,
) -> None:
    """Decode dead letters again, with this version; store those that are valid now.

    The rest stays as it is. The service may run meanwhile.
    """
    settings = settings_of(context)
    archive = archive_of(settings)
    chosen: Iterable[DeadLetterEntry]
    if numbers and not (every or node or reason):
        chosen = [_letter(archive, number) for number in dict.fromkeys(numbers)]
        total = len(numbers)
    elif (every or node or reason) and not numbers:
        chosen = archive.dead_letters(0, node, reason)
        total = archive.count_dead_letters(node, reason)
    else:
        fail("say which: either ids, or --all, --node or --reason TEXT", 2)
    with closing(journal_of(settings)) as journal:
        dead_letters = progressed(chosen, total, "replaying")
        stored = duplicates = 0
        reasons = Counter[str]()
        for outcome in admin.replay(journal, dead_letters, Decoder(settings.payload_bytes_max)):
            stored += isinstance(outcome, Stored)
            duplicates += isinstance(outcome, Duplicate)
            if isinstance(outcome, DeadLetter):
                reasons[outcome.rejected.render()] += 1
    say(
        f"{stored:,} stored, {duplicates:,} were duplicates, "
        f"{reasons.total():,} are still not valid"
    )
    if reasons:
        why = table("still not valid>", "reason+")
        for text, count in reasons.most_common(REASONS_SHOWN_MAX):
            why.add_row(*cells(f"{count:,}", text))
        out.print(why)
        if len(reasons) > REASONS_SHOWN_MAX:
            say(f"and {len(reasons) - REASONS_SHOWN_MAX:,} more reasons")


@app.command()
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A new file, for JSON Lines.")],
    node: Node = None,
    reason: Reason = None,
) -> None:
    """Write dead letters to a JSON Lines file; the payload is in it as base64.

    They stay in the journal.
    """
    archive = archive_of(settings_of(context))
    letters = archive.dead_letters(0, node, reason)
    total = archive.count_dead_letters(node, reason)
    write_lines(file, progressed(map(_line, letters), total, "exporting"))


def _line(letter: DeadLetterEntry) -> dict[str, object]:
    message = letter.message
    return {
        "id": letter.id,
        "reason": letter.reason,
        "received_at_ms": message.received_at_ms,
        "node": message.node,
        "topic": message.topic,
        "properties": message.properties,
        "payload_base64": base64.b64encode(message.payload).decode(),
    }


def _letter(archive: JournalReader, number: int) -> DeadLetterEntry:
    letter = archive.dead_letter(number)
    if letter is None:
        fail(f"there is no dead letter {number:,}; it may have been replayed")
    return letter
