"""`status`: what came in, what became of it, and that the sums close; by node, who is heard."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Annotated

import msgspec
import typer
from msgspec import Struct
from rich.text import Text

from echo_ingest.cli.options import archive_of, given_time, settings_of
from echo_ingest.cli.output import cells, duration, fail, moment, out, say, table
from echo_ingest.formatting import utc
from echo_ingest.journal import Ledger
from echo_ingest.journal.node_days import NodeDay
from echo_ingest.payload_view import size


class NodeSum(Struct):
    """What one node sent: `received = stored + duplicates + dead_letters`."""

    node: str | None
    first_heard_at: datetime
    last_heard_at: datetime
    received: int = 0
    stored: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    received_bytes: int = 0


def status(
    context: typer.Context,
    by_node: Annotated[bool, typer.Option("--by-node", help="By node, and when it spoke.")] = False,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=given_time,
            metavar="TIME",
            help="With [b]--by-node[/]: from that UTC day on, such as [b]7d[/] (ago).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, times in UTC.")] = False,
) -> None:
    """Show what came in and what became of it, from the journal's own ledger."""
    if since is not None and not by_node:
        fail("--since goes with --by-node: the whole ledger counts since the journal began", 2)
    archive = archive_of(settings_of(context))
    if by_node:
        first_day = since.astimezone(UTC).date() if since is not None else None
        nodes = _sums(archive.node_days(since=first_day))
        if as_json:
            _print_json({"since": first_day, "nodes": nodes})
        else:
            _show_nodes(nodes, first_day)
    elif as_json:
        _print_json(archive.ledger())
    else:
        _show(archive.ledger())


def _print_json(figures: object) -> None:
    typer.echo(msgspec.json.encode(figures))


def _show(ledger: Ledger) -> None:
    figures = (ledger.received, ledger.stored, ledger.duplicates, ledger.dead_letters)
    messages = table("received>", "stored>", "duplicates>", "dead letters>")
    messages.add_row(*cells(*(f"{figure:,}" for figure in figures)))
    out.print(messages)
    _sum("received = stored + duplicates + dead letters", figures[0] == sum(figures[1:]))
    if ledger.lost:
        out.print(Text(f"{ledger.lost:,} of them are lost: a damaged file did not give them back"))
    if not ledger.sinks:
        out.print("\nNo sinks: the journal is the store.")
        return
    sinks = table("sink", "delivered>", "parked>", "backlog>", "skipped>", "lag>", "")
    closes = True
    for name, sink in ledger.sinks.items():
        counts = (sink.delivered, sink.parked, sink.backlog, sink.skipped)
        state = "" if sink.paused_at_ms is None else f"paused since {moment(sink.paused_at_ms)}"
        sinks.add_row(*cells(name, *(f"{n:,}" for n in counts), duration(sink.lag_seconds), state))
        closes = closes and ledger.stored == sum(counts)
    out.print()
    out.print(sinks)
    _sum("stored = delivered + parked + backlog + skipped", closes)


def _sum(words: str, closes: bool) -> None:
    remedy = "" if closes else "  this is a mistake of ours: please report it, with these figures"
    out.print(Text.assemble(words, (" ✓", "green") if closes else (" ✗", "bold red"), remedy))


def _sums(days: Iterable[NodeDay]) -> list[NodeSum]:
    """One for each node, who was heard last first: who has fallen silent is at the end."""
    sums: dict[str, NodeSum] = {}
    for day in days:
        first, last = utc(day.first_heard_at_ms), utc(day.last_heard_at_ms)
        each = sums.setdefault(day.node, NodeSum(day.node or None, first, last))
        each.first_heard_at = min(each.first_heard_at, first)
        each.last_heard_at = max(each.last_heard_at, last)
        each.received += day.received
        each.stored += day.stored
        each.duplicates += day.duplicates
        each.dead_letters += day.dead_letters
        each.received_bytes += day.received_bytes
    return sorted(sums.values(), key=lambda each: each.last_heard_at, reverse=True)


def _show_nodes(nodes: list[NodeSum], first_day: date | None) -> None:
    now = datetime.now(UTC)
    shown = table(
        "node", "last heard", "ago>", "received>", "stored>", "duplicates>", "dead letters>",
        "size>",
    )  # fmt: skip
    for each in nodes:
        ago_seconds = max(0.0, (now - each.last_heard_at).total_seconds())
        counts = (each.received, each.stored, each.duplicates, each.dead_letters)
        shown.add_row(
            *cells(
                each.node or "(none)",
                moment(each.last_heard_at),
                duration(ago_seconds),
                *(f"{count:,}" for count in counts),
                size(each.received_bytes),
            )
        )
    if nodes:
        out.print(shown)
    since = "" if first_day is None else f" since {first_day} (UTC)"
    say(f"nodes heard{since}: {len(nodes):,}")
