"""`status`: what came in, what became of it, and that the sums close."""

from typing import Annotated

import msgspec
import typer
from rich.text import Text

from echo_ingest.cli.options import archive_of, settings_of
from echo_ingest.cli.screen import cells, duration, out, table
from echo_ingest.journal import Ledger


def status(
    context: typer.Context,
    as_json: Annotated[
        bool, typer.Option("--json", help="The same JSON as [b]/api/ledger[/].")
    ] = False,
) -> None:
    """Show what came in and what became of it, from the journal's own ledger."""
    ledger = archive_of(settings_of(context)).ledger()
    if as_json:
        typer.echo(msgspec.json.encode(ledger))
    else:
        _show(ledger)


def _show(ledger: Ledger) -> None:
    figures = (ledger.received, ledger.stored, ledger.duplicates, ledger.dead_letters)
    messages = table("received>", "stored>", "duplicates>", "dead letters>")
    messages.add_row(*cells(*(f"{figure:,}" for figure in figures)))
    out.print(messages)
    _sum("received = stored + duplicates + dead letters", figures[0] == sum(figures[1:]))
    if not ledger.sinks:
        out.print("\nNo sinks: the journal is the store.")
        return
    sinks = table("sink", "delivered>", "parked>", "backlog>", "skipped>", "lag>")
    closes = True
    for name, sink in ledger.sinks.items():
        counts = (sink.delivered, sink.parked, sink.backlog, sink.skipped)
        sinks.add_row(*cells(name, *(f"{n:,}" for n in counts), duration(sink.lag_seconds)))
        closes = closes and ledger.stored == sum(counts)
    out.print()
    out.print(sinks)
    _sum("stored = delivered + parked + backlog + skipped", closes)


def _sum(words: str, closes: bool) -> None:
    remedy = "" if closes else "  this is a mistake of ours: please report it, with these figures"
    out.print(Text.assemble(words, (" ✓", "green") if closes else (" ✗", "bold red"), remedy))
