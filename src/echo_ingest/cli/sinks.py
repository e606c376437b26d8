"""`sinks`: list, watch, backfill, pause, resume and forget sinks; and `migrate` for PostgreSQL."""

import asyncio
import logging
import time
from contextlib import closing
from datetime import datetime
from http import HTTPStatus
from http.client import HTTPException
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from echo_ingest.admin import journal_of
from echo_ingest.admin import sinks as admin
from echo_ingest.cli.connection import ask_service
from echo_ingest.cli.options import given_time, log_from, open_reader, settings_of
from echo_ingest.cli.output import cells, err, fail, moment, out, print_table, say, table
from echo_ingest.formatting import counted, duration
from echo_ingest.journal import SinkLedger
from echo_ingest.journal.reader import JournalReader
from echo_ingest.settings import Settings
from echo_ingest.sinks import Sink, SinkState, Unavailable
from echo_ingest.sinks.registry import sinks_of, title_of

POLL_SECONDS = 0.25
STATE_POLL_SECONDS = 2.0

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of a sink, as in [b]sinks list[/].")
]
Running = dict[str, SinkState] | None

app = typer.Typer(help="List, watch, backfill, pause, resume or forget sinks.")


@app.command("list")
def list_sinks(context: typer.Context) -> None:
    """List the sinks with their current state and their progress."""
    settings = settings_of(context)
    with closing(open_reader(settings)) as reader:
        known = reader.ledger().sinks
    configured, running = _configured(settings), _running(settings)
    shown = table("sink", "title", "state+", "delivered>", "parked>", "backlog>", "lag>")
    for name in dict.fromkeys([*known, *configured]):
        figures = known.get(name)
        counts = (figures.delivered, figures.parked, figures.backlog) if figures else ()
        shown.add_row(
            *cells(
                name,
                title_of(name),
                _state(name, figures, name in configured, running),
                *(f"{count:,}" for count in counts),
                duration(figures.lag_seconds) if figures else "",
            )
        )
    if not shown.row_count:
        say("no sinks: records stay in the journal; docs/stores.md shows how to add a sink")
        return
    print_table(shown)
    say("the numbers are records; lag is the age of the oldest record that waits")


@app.command()
def pause(context: typer.Context, name: Name) -> None:
    """Stop delivery to a sink until it is resumed. The other sinks are not affected."""
    settings = settings_of(context)
    since = admin.pause(settings, name, _configured(settings))
    if since is not None:
        say(f"{name} is already paused, since {moment(since)}")
        return
    say(f"{name} is paused: it gets nothing more once the current write has ended")


@app.command()
def resume(context: typer.Context, name: Name) -> None:
    """Continue delivery to a paused sink."""
    settings = settings_of(context)
    backlog = admin.resume(settings, name, _configured(settings))
    if backlog is None:
        say(f"{name} is not paused")
        return
    say(f"{name} is resumed, with a backlog of {backlog:,}")


@app.command()
def backfill(
    context: typer.Context,
    name: Name,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            parser=given_time,
            metavar="TIME",
            help="Only records received since then, such as [b]7d[/] for 7 days ago.",
        ),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait for the delivery.")
    ] = False,
    accept_duplicates: Annotated[
        bool,
        typer.Option(
            "--accept-duplicates", help="Continue even if records will be in the sink twice."
        ),
    ] = False,
) -> None:
    """Deliver the whole journal to a sink again, or everything received since a time.

    Use it if the sink's data was lost or restored from a backup. Parked
    records are offered again too. The service does this while it runs; Ctrl-C
    stops only the waiting.
    """
    settings = settings_of(context)
    _known(settings, name)
    sink = _configured(settings).get(name) or _not_configured(name)
    with closing(open_reader(settings)) as reader:
        first = _first(reader, since)
        with closing(journal_of(settings)) as journal:
            journal.add_sink(name)
            end = reader.cursor(name) or 0
            had = min(reader.ledger().sinks[name].delivered, max(0, end - first + 1))
            may_repeat = sink.is_idempotent or accept_duplicates
            if had and not may_repeat:
                fail(
                    f"{name} does not recognise duplicates: up to {counted(had, 'records')} that "
                    "it already has would be there twice. To accept that, add --accept-duplicates"
                )
            again = journal.backfill(name, first, may_repeat=may_repeat)
        if again > 0:
            say(f"{counted(again, 'records')} will be delivered to {name} again")
        elif again < 0:
            say(
                f"{name} has no records yet and begins at that time; "
                f"{counted(-again, 'earlier records')} will be skipped"
            )
        else:
            say(f"all of these records are already waiting for {name}")
        if again <= 0:
            end = reader.last_offset()
        if not no_wait:
            _watch(settings, reader, name, end)


@app.command()
def watch(context: typer.Context, name: Name) -> None:
    """Show a sink's progress until its present backlog is delivered."""
    settings = settings_of(context)
    if _known(settings, name) is None:
        fail(f"{name} has never been used; start the service")
    with closing(open_reader(settings)) as reader:
        _watch(settings, reader, name, reader.last_offset())


@app.command()
def forget(context: typer.Context, name: Name) -> None:
    """Forget a sink that is no longer configured, so that retention no longer waits for it.

    Its position and its list of parked records are deleted; the records
    themselves are kept.
    """
    settings = settings_of(context)
    figures = _known(settings, name)
    state = (_running(settings) or {}).get(name)
    if name in _configured(settings) or (state and state.state != "not configured"):
        fail(f"{name} is in use: first remove it from the settings and restart the service")
    assert figures is not None, "a sink that is not configured is known only to the journal"
    with closing(journal_of(settings)) as journal:
        journal.forget(name)
    say(
        f"{name} is forgotten, with {figures.parked:,} parked and a backlog of "
        f"{figures.backlog:,}; if you configure it again, it begins at the start of the journal"
    )


def _first(reader: JournalReader, since: datetime | None) -> int:
    """Return the offset to begin at."""
    if since is None:
        return 1
    first = reader.first_received(since)
    if first is None:
        fail(f"nothing was received since {moment(since)}, so there is nothing to deliver again")
    return first


def _running(settings: Settings) -> Running:
    """Ask the running service for the state of each sink; return None if no service runs."""
    try:
        status, body = ask_service(settings, "/api/sinks")
        if status == HTTPStatus.UNAUTHORIZED:
            fail("the service does not accept our token: set IOT_HTTP_TOKEN to the one it uses")
        return msgspec.json.decode(body, type=dict[str, SinkState])
    except (OSError, HTTPException, msgspec.DecodeError):
        return None


def _configured(settings: Settings) -> dict[str, Sink]:
    return {sink.name: sink for sink in sinks_of(settings)}


def _known(settings: Settings, name: str) -> SinkLedger | None:
    return admin.figures_of(settings, name, _configured(settings))


def _not_configured(name: str) -> NoReturn:
    fail(
        f"{name} is no longer configured, so nothing would be delivered: configure it again, "
        "restart the service, and then repeat this command"
    )


def _state(name: str, figures: SinkLedger | None, configured: bool, running: Running) -> str:
    """Return the state of a sink in words."""
    if running is None and not configured:
        return "no longer configured"
    if running is not None and name not in running:
        return "begins when the service restarts"
    if figures is None:
        return "begins when the service starts"
    if running is not None and running[name].state == "not configured":
        return "no longer configured"
    if figures.paused_at_ms is not None:
        return f"paused since {moment(figures.paused_at_ms)}"
    return "the service is not running" if running is None else _words(running[name])


def _words(state: SinkState) -> str:
    since = f" since {moment(state.since)}" if state.since is not None else ""
    reason = f": {state.reason}" if state.reason is not None else ""
    return f"{state.state}{since}{reason}"


def _watch(settings: Settings, reader: JournalReader, name: str, end: int) -> None:
    """Show the sink's progress to the offset `end`; fail if it cannot get there now."""
    start = reader.cursor(name) or 0
    total = end - start
    began_at = asked_at = time.monotonic()
    if not total:
        say(f"nothing is waiting for {name}")
        return
    bar = Progress(
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
        console=err,
        disable=not err.is_terminal,
    )
    try:
        words = _require_progress(settings, reader, name)
        say("waiting; Ctrl-C stops the waiting, not the delivery")
        with bar:
            task = bar.add_task(words, total=total, rate=0.0)
            while (done := (reader.cursor(name) or 0) - start) < total:
                now = time.monotonic()
                rate = max(0, done) / max(now - began_at, POLL_SECONDS)
                bar.update(task, completed=max(0, done), rate=rate)
                if now - asked_at > STATE_POLL_SECONDS:
                    asked_at = now
                    bar.update(task, description=_require_progress(settings, reader, name))
                time.sleep(POLL_SECONDS)
            seconds = time.monotonic() - began_at
            bar.update(task, completed=total, rate=total / seconds, description="")
    except KeyboardInterrupt:
        fail("stopped waiting; the delivery continues, see `echo-ingest sinks list`")
    say(
        f"{name}: {counted(total, 'records')} done in {duration(seconds)}, {total / seconds:,.0f}/s"
    )


def _require_progress(settings: Settings, reader: JournalReader, name: str) -> str:
    """Return why the sink is slow, if it is; end with an error if it makes no progress now."""
    running = _running(settings)
    state = running.get(name) if running is not None else None
    if state is None:
        fail(
            f"not waiting, because no service with the sink {name} is running; the delivery "
            "continues when it starts"
        )
    if state.state == "paused":
        fail(f"not waiting, because {name} is paused; `echo-ingest sinks resume {name}` continues")
    return "" if state.state == "delivering" else _words(state)


def migrate(context: typer.Context) -> None:
    """Bring the tables of the database at [b]IOT_POSTGRES_URL[/] up to date.

    The service does this itself if its role may create tables. Use this
    command with another role.
    """
    settings = settings_of(context)
    if settings.postgres_url is None:
        fail(
            "IOT_POSTGRES_URL is not set: set it to the database, with a role that may create "
            "tables",
            2,
        )
    log_from(logging.CRITICAL)  # the result already lists what was applied
    from echo_ingest.sinks.postgres import Postgres  # slow to import: see cli/__init__.py

    sink = Postgres(settings.postgres_url.get_secret_value())
    say(f"{sink.address}: this may take a while if there are many rows")
    try:
        applied = asyncio.run(sink.migrate())
    except Unavailable as error:
        fail(f"{sink.address}: {error}")
    for file in applied:
        out.print(f"applied {file}")
    if not applied:
        say("the tables are already up to date")
