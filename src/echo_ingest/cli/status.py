"""`status`: show the message ledger and that it adds up, or the counts of each node."""

from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, date, datetime
from typing import Annotated

import msgspec
import typer
from msgspec import Struct
from rich.text import Text

from echo_ingest.admin.node_remedies import confidence_command
from echo_ingest.almanac import Almanac, AlmanacUnready, almanac_path
from echo_ingest.broker.node_accounts import read_node_rules
from echo_ingest.cli.options import given_time, open_reader, settings_of
from echo_ingest.cli.output import cells, fail, moment, out, print_table, say, table
from echo_ingest.decode import NodeRules
from echo_ingest.formatting import counted, duration, milliseconds, utc
from echo_ingest.journal import Ledger
from echo_ingest.journal.node_days import CREDIBLE_AHEAD_MS, NodeDay
from echo_ingest.payload_view import size
from echo_ingest.settings import Settings
from echo_ingest.site_decoder import errors_of, forms_of


class NodeSum(Struct, kw_only=True):
    """The counts of one node: they add up as those of all messages do."""

    node: str | None
    first_heard_at: datetime
    last_heard_at: datetime
    received: int = 0
    stored: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    ignored: int = 0
    unclaimed: int = 0
    discarded: int = 0
    received_bytes: int = 0


def status(
    context: typer.Context,
    by_node: Annotated[bool, typer.Option("--by-node", help="Show counts for each node.")] = False,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=given_time,
            metavar="TIME",
            help="With [b]--by-node[/]: count from this UTC day on; [b]7d[/] is seven days before "
            "now.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with times in UTC.")] = False,
) -> None:
    """Show the message ledger: what was received, and what became of it."""
    if since is not None and not by_node:
        fail("--since needs --by-node: the ledger itself counts from the start of the journal", 2)
    settings = settings_of(context)
    reader = open_reader(settings)
    if by_node:
        first_day = since.astimezone(UTC).date() if since is not None else None
        nodes = _sums(reader.node_days(since=first_day))
        if as_json:
            _print_json({"since": first_day, "nodes": nodes})
        else:
            _show_nodes(nodes, first_day)
    elif as_json:
        _print_json(reader.ledger())
    else:
        _show(reader.ledger())
    if not as_json:
        if ahead := reader.received_ahead(milliseconds(datetime.now(UTC))):
            say(ahead.render())
        for sender in suspect_confidences(settings):
            say(sender)
        for words in errors_of(forms_of(settings)):
            say(f"a form cannot be used: {words}")


def suspect_confidences(settings: Settings) -> list[str]:
    """Return in words which nodes seem to send fractions as percent, as the console knows them."""
    try:
        with closing(Almanac(almanac_path(settings.data_dir))) as almanac:
            senders = almanac.fraction_senders()
    except AlmanacUnready:
        return []
    known = read_node_rules(settings.nodes_path)
    return [
        f"{sender.name}: no confidence in {counted(sender.detections, 'detections')} is more than"
        " 1 %; if it sends fractions and not percent, type:"
        f" {confidence_command(sender.name) or 'echo-ingest nodes set NAME --confidence fraction'}"
        for sender in senders
        if not known.get(sender.name, NodeRules()).confidence_is_fraction
    ]


def _print_json(figures: object) -> None:
    typer.echo(msgspec.json.encode(figures))


def _show(ledger: Ledger) -> None:
    terms = {
        "stored": ledger.stored,
        "duplicates": ledger.duplicates,
        "dead letters": ledger.dead_letters,
        **{name: count for name, count in ledger.others.items() if count},
    }
    messages = table("received>", *(f"{name}>" for name in terms))
    messages.add_row(*cells(*(f"{count:,}" for count in (ledger.received, *terms.values()))))
    print_table(messages)
    _show_sum(f"received = {' + '.join(terms)}", ledger.received == ledger.accounted)
    if ledger.lost:
        out.print(
            Text(
                f"{counted(ledger.lost, 'records')} of these could not be recovered from a damaged "
                "journal"
            )
        )
    if not ledger.sinks:
        out.print("\nNo sinks: records stay in the journal.")
        return
    sinks = table("sink", "delivered>", "parked>", "backlog>", "skipped>", "lag>", "")
    all_add_up = True
    for name, sink in ledger.sinks.items():
        counts = (sink.delivered, sink.parked, sink.backlog, sink.skipped)
        sinks.add_row(
            *cells(
                name,
                *(f"{count:,}" for count in counts),
                duration(sink.lag_seconds),
                "" if sink.paused_at_ms is None else f"paused since {moment(sink.paused_at_ms)}",
            )
        )
        all_add_up = all_add_up and ledger.stored == sum(counts)
    out.print()
    print_table(sinks)
    _show_sum("stored = delivered + parked + backlog + skipped", all_add_up)


def _show_sum(formula: str, adds_up: bool) -> None:
    remedy = "" if adds_up else "  this is a bug: please report it with these numbers"
    out.print(Text.assemble(formula, (" ✓", "green") if adds_up else (" ✗", "bold red"), remedy))


def _sums(days: Iterable[NodeDay]) -> list[NodeSum]:
    """Return the counts of each node, most recently heard first, so silent nodes are at the end."""
    sums: dict[str, NodeSum] = {}
    soon = utc(milliseconds(datetime.now(UTC)) + CREDIBLE_AHEAD_MS)
    for day in days:
        first, last = utc(day.first_heard_at_ms), utc(day.last_heard_at_ms)
        each = sums.setdefault(
            day.node,
            NodeSum(node=day.node or None, first_heard_at=first, last_heard_at=last),
        )
        each.first_heard_at = min(each.first_heard_at, first)
        each.last_heard_at = _later(each.last_heard_at, last, soon)
        each.received += day.received
        each.stored += day.stored
        each.duplicates += day.duplicates
        each.dead_letters += day.dead_letters
        each.ignored += day.ignored
        each.unclaimed += day.unclaimed
        each.discarded += day.discarded
        each.received_bytes += day.received_bytes
    return sorted(sums.values(), key=lambda each: each.last_heard_at, reverse=True)


def _later(one: datetime, other: datetime, soon: datetime) -> datetime:
    """Return the later of two times that may be true; else the earlier, from a wrong clock."""
    if max(one, other) <= soon:
        return max(one, other)
    return min(one, other)


def _show_nodes(nodes: list[NodeSum], first_day: date | None) -> None:
    now = datetime.now(UTC)
    shown = table(
        "node~", "last heard", "ago>", "received>", "stored>", "duplicates>", "dead letters>",
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
        print_table(shown)
    since = "" if first_day is None else f" since {first_day} (UTC)"
    say(f"{counted(len(nodes), 'nodes')} heard{since}")
