"""`sinks`: where records go; to watch one, have it wait, go on, begin anew, or be forgotten."""

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
from echo_ingest.admin import sinks as decided
from echo_ingest.cli.connection import ask_service
from echo_ingest.cli.options import archive_of, given_time, log_from, settings_of
from echo_ingest.cli.output import cells, counted, duration, err, fail, moment, out, say, table
from echo_ingest.journal import SinkLedger
from echo_ingest.journal.reader import JournalReader
from echo_ingest.settings import Settings
from echo_ingest.sinks import Sink, SinkState, Unavailable
from echo_ingest.sinks.registry import sinks_of, title_of

POLL_SECONDS = 0.25
STATE_POLL_SECONDS = 2.0

Name = Annotated[str, typer.Argument(metavar="NAME", help="Which sink, as `sinks list` says.")]
Running = dict[str, SinkState] | None

app = typer.Typer(help="Where records go: list, watch, backfill, pause, resume, forget.")


@app.command("list")
def list_sinks(context: typer.Context) -> None:
    """List the sinks, what each does just now, and how far it has come."""
    settings = settings_of(context)
    with closing(archive_of(settings)) as archive:
        known = archive.ledger().sinks
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
        say("no sinks: the journal is the store; docs/stores.md says how to add one")
        return
    out.print(shown)
    say("counts are records; lag is the age of the oldest that waits")


@app.command()
def pause(context: typer.Context, name: Name) -> None:
    """Offer a sink nothing more until it is resumed. All others go on."""
    settings = settings_of(context)
    since = decided.pause(settings, name, _configured(settings))
    if since is not None:
        say(f"{name} is paused already, since {moment(since)}")
        return
    say(f"{name} is paused: it gets nothing more once the write it is in has ended")


@app.command()
def resume(context: typer.Context, name: Name) -> None:
    """Let a paused sink go on where it was."""
    settings = settings_of(context)
    backlog = decided.resume(settings, name, _configured(settings))
    if backlog is None:
        say(f"{name} is not paused")
        return
    say(f"{name} goes on with a backlog of {backlog:,}")


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
            help="Only what was received from then on, such as [b]7d[/] (ago).",
        ),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait until it is done.")
    ] = False,
    accept_duplicates: Annotated[
        bool,
        typer.Option("--accept-duplicates", help="Even where what it has will be there twice."),
    ] = False,
) -> None:
    """Offer a sink everything again that is in the journal, or what was received since a time.

    For a store that was emptied, or restored from a backup. What is parked there is offered again
    too. The running service does it; to stop waiting does not stop it.
    """
    settings = settings_of(context)
    _known(settings, name)
    sink = _configured(settings).get(name) or _not_configured(name)
    with closing(archive_of(settings)) as archive:
        first = _first(archive, since)
        with closing(journal_of(settings)) as journal:
            journal.add_sink(name)
            end = archive.cursor(name) or 0
            had = min(archive.ledger().sinks[name].delivered, max(0, end - first + 1))
            may_repeat = sink.is_idempotent or accept_duplicates
            if had and not may_repeat:
                fail(
                    f"{name} cannot tell a repeat: up to {had:,} records that it has would be "
                    "there twice. If that is what you want, add --accept-duplicates"
                )
            again = journal.backfill(name, first, may_repeat=may_repeat)
        if again > 0:
            say(f"{counted(again, 'records')} offered to {name} again")
        elif again < 0:
            say(f"{name} has had nothing yet and begins there: {-again:,} before that are skipped")
        else:
            say(f"all from there on waits for {name} already")
        if again <= 0:
            end = archive.last_offset()
        if not no_wait:
            _watch(settings, archive, name, end)


@app.command()
def watch(context: typer.Context, name: Name) -> None:
    """Show how a sink works off its backlog, until all is done that waits now."""
    settings = settings_of(context)
    if _known(settings, name) is None:
        fail(f"{name} has not run yet: start the service")
    with closing(archive_of(settings)) as archive:
        _watch(settings, archive, name, archive.last_offset())


@app.command()
def forget(context: typer.Context, name: Name) -> None:
    """Forget a sink that is not configured any more, so that it holds up retention no longer.

    Its cursor and what it has parked go; the records stay.
    """
    settings = settings_of(context)
    figures = _known(settings, name)
    state = (_running(settings) or {}).get(name)
    if name in _configured(settings) or (state and state.state != "not configured"):
        fail(f"{name} is in use: take its address out of the settings first, and restart")
    assert figures is not None, "what is not configured is known to the journal alone"
    with closing(journal_of(settings)) as journal:
        journal.forget(name)
    say(
        f"{name} is forgotten, with {figures.parked:,} parked and a backlog of "
        f"{figures.backlog:,}; configured again, it would begin where the journal does"
    )


def _first(archive: JournalReader, since: datetime | None) -> int:
    """The offset to begin at."""
    if since is None:
        return 1
    first = archive.first_received(since)
    if first is None:
        fail(f"nothing was received since {moment(since)}: there is nothing to offer")
    return first


def _running(settings: Settings) -> Running:
    """What each sink does, as the running service says; None if none runs."""
    try:
        status, body = ask_service(settings, "/api/sinks")
        if status == HTTPStatus.UNAUTHORIZED:
            fail("the service here wants another token: set IOT_HTTP_TOKEN to the one that it has")
        return msgspec.json.decode(body, type=dict[str, SinkState])
    except (OSError, HTTPException, msgspec.DecodeError):
        return None


def _configured(settings: Settings) -> dict[str, Sink]:
    return {sink.name: sink for sink in sinks_of(settings)}


def _known(settings: Settings, name: str) -> SinkLedger | None:
    return decided.figures_of(settings, name, _configured(settings))


def _not_configured(name: str) -> NoReturn:
    fail(
        f"{name} is not configured any more, so nothing would be delivered: set its address again, "
        "restart the service, and then repeat this"
    )


def _state(name: str, figures: SinkLedger | None, configured: bool, running: Running) -> str:
    """In words."""
    if running is None and not configured:
        return "not configured any more"
    if running is not None and name not in running:
        return "begins when the service is restarted"
    if figures is None:
        return "begins when the service is started"
    if running is not None and running[name].state == "not configured":
        return "not configured any more"
    if figures.paused_at_ms is not None:
        return f"paused since {moment(figures.paused_at_ms)}"
    return "the service does not run" if running is None else _words(running[name])


def _words(state: SinkState) -> str:
    since = f" since {moment(state.since)}" if state.since is not None else ""
    reason = f": {state.reason}" if state.reason is not None else ""
    return f"{state.state}{since}{reason}"


def _watch(settings: Settings, archive: JournalReader, name: str, end: int) -> None:
    """Show how the sink comes to offset `end`; return when it has, or cannot now."""
    start = archive.cursor(name) or 0
    total = end - start
    began = asked = time.monotonic()
    if not total:
        say(f"nothing waits for {name}")
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
        words = _require_progress(settings, archive, name)
        say("waiting for it; Ctrl-C ends the waiting, not the work")
        with bar:
            task = bar.add_task(words, total=total, rate=0.0)
            while (done := (archive.cursor(name) or 0) - start) < total:
                now = time.monotonic()
                rate = max(0, done) / max(now - began, POLL_SECONDS)
                bar.update(task, completed=max(0, done), rate=rate)
                if now - asked > STATE_POLL_SECONDS:
                    asked = now
                    bar.update(task, description=_require_progress(settings, archive, name))
                time.sleep(POLL_SECONDS)
            seconds = time.monotonic() - began
            bar.update(task, completed=total, rate=total / seconds, description="")
    except KeyboardInterrupt:
        fail("not waited for any longer; it goes on, see `echo-ingest sinks list`")
    say(f"{name} has them: {total:,} in {duration(seconds)}, {total / seconds:,.0f}/s")


def _require_progress(settings: Settings, archive: JournalReader, name: str) -> str:
    """What the sink does, where that is not plain; end in words if to wait would be in vain."""
    running = _running(settings)
    state = running.get(name) if running is not None else None
    if state is None:
        fail("not waited for: the service does not run with it; it goes on when it does")
    if state.state == "paused":
        fail(f"not waited for: {name} is paused; `echo-ingest sinks resume {name}` goes on")
    return "" if state.state == "delivering" else _words(state)


def migrate(context: typer.Context) -> None:
    """Bring the tables in [b]IOT_POSTGRES_URL[/] up to date.

    The service does it by itself, if its role may. This is for a role that it does not have.
    """
    settings = settings_of(context)
    if settings.postgres_url is None:
        fail("IOT_POSTGRES_URL is not set: type the database, and a role that may make tables", 2)
    log_from(logging.CRITICAL)  # what was applied is the result
    from echo_ingest.sinks.postgres import Postgres  # heavy: see cli/__init__.py

    sink = Postgres(settings.postgres_url.get_secret_value())
    say(f"{sink.address}: this may take a while where there are many rows")
    try:
        applied = asyncio.run(sink.migrate())
    except Unavailable as error:
        fail(f"{sink.address}: {error}")
    for file in applied:
        out.print(f"applied {file}")
    if not applied:
        say("there was nothing to do")
