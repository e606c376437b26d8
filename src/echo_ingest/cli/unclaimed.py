"""`unclaimed`: what came on topics that nothing has claimed; take one in, or discard it."""

from typing import Annotated

import msgspec
import typer
from rich.text import Text

from echo_ingest.admin import unclaimed as admin
from echo_ingest.cli.options import open_reader, settings_of
from echo_ingest.cli.output import cells, fail, moment, out, print_table, say, table
from echo_ingest.formatting import counted
from echo_ingest.payload_view import readable, size

OTHER_TOPICS = "(other topics)"

app = typer.Typer(help="Messages on topics that nothing has claimed: list, take in, discard.")
Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="A topic, as the list shows it.")]


@app.command("list")
def list_topics(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with times in UTC.")] = False,
) -> None:
    """List the topics, those with the most messages first."""
    topics = open_reader(settings_of(context)).unclaimed_topics()
    if as_json:
        typer.echo(msgspec.json.encode(topics))
        return
    shown = table("topic~", "messages>", "size>", "kept>", "last", "published by")
    for each in topics:
        shown.add_row(
            *cells(
                each.topic or OTHER_TOPICS,
                f"{each.messages:,}",
                size(each.bytes),
                f"{each.kept:,}",
                moment(each.last_at_ms),
                ", ".join(each.accounts),
            )
        )
    if topics:
        print_table(shown)
    say(f"{counted(len(topics), 'topics')} that neither IOT_TOPIC nor a form has claimed")
    if topics and topics[0].topic:
        suggested = admin.suggested_filter(topics[0].topic)
        say(f"to take one in: echo-ingest unclaimed take '{suggested}'")


@app.command()
def show(
    context: typer.Context,
    topic: Topic,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Show the newest N.")] = 1,
) -> None:
    """Show the newest messages that are kept of a topic."""
    entries = open_reader(settings_of(context)).newest_unclaimed(topic, limit)
    if not entries:
        fail(f"nothing is kept of {topic}: `echo-ingest unclaimed list` shows all topics")
    for entry in entries:
        message = entry.message
        by = "" if message.account is None else f" from {message.account}"
        out.print(Text(f"{moment(message.received_at_ms)}{by}\n{readable(message.payload)}\n"))


@app.command()
def take(
    context: typer.Context,
    topic_filter: Annotated[
        str, typer.Argument(metavar="FILTER", help="Such as 'birdnet/#' or 'tele/+/SENSOR'.")
    ],
) -> None:
    """Take a topic in: what comes on it is read, and what is kept of it too.

    What has no form then is a dead letter, which tells why.
    """
    taken = admin.take(settings_of(context), topic_filter)
    say(f"{taken} is taken in; a running service applies it within seconds, another at its start")


@app.command()
def discard(
    context: typer.Context,
    topics: Annotated[list[str], typer.Argument(metavar="TOPIC", help="Topics of the list.")],
) -> None:
    """Remove what is kept of topics. It stays counted; what comes later is kept again."""
    settings = settings_of(context)
    open_reader(settings)
    given = ["" if each == OTHER_TOPICS else each for each in topics]
    say(f"{counted(admin.discard(settings, given), 'messages')} discarded")
