"""The command line: `echo-ingest`. Every command is documented in docs/cli.md."""

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import apsw
import typer

import echo_ingest
from echo_ingest.admin import ActionError, InvalidInput
from echo_ingest.broker import BrokerError
from echo_ingest.cli import (
    check,
    dead_letters,
    export,
    nodes,
    parked,
    publish,
    records,
    sinks,
    status,
    verify,
)
from echo_ingest.cli.confirmed_publish import NoReceipt
from echo_ingest.cli.options import settings_of
from echo_ingest.cli.output import say_error
from echo_ingest.journal import JournalFull, JournalUnusable
from echo_ingest.mqtt import ConnectionLost
from echo_ingest.settings import SettingsError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
RUNNING, READING, MENDING = "Run", "Read what is stored", "Send and mend"
ACCESS = "Say who may come in"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"echo-ingest {echo_ingest.__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Settings in TOML."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show it and exit."),
    ] = False,
) -> None:
    """Durable MQTT ingestion for acoustic sensor networks in the field.

    Settings come from the environment ([b]IOT_DATA_DIR[/], [b]IOT_ENDPOINT[/], …) or a file.
    """
    context.obj = config


@app.command(rich_help_panel=RUNNING)
def up(context: typer.Context) -> None:
    """Run everything: broker, ingestion and HTTP."""
    _serve("up", context)


@app.command(rich_help_panel=RUNNING)
def run(context: typer.Context) -> None:
    """Run ingestion and HTTP, with the broker at [b]IOT_ENDPOINT[/]."""
    _serve("run", context)


@app.command(rich_help_panel=RUNNING)
def broker(context: typer.Context) -> None:
    """Run the broker alone."""
    _serve("broker", context)


@app.command(rich_help_panel=RUNNING)
def demo(context: typer.Context) -> None:
    """Like [b]up[/], with simulated devices and a live ledger."""
    _serve("demo", context)


def _serve(command: Literal["up", "run", "broker", "demo"], context: typer.Context) -> NoReturn:
    settings = settings_of(context)
    # The servers' libraries take most of a second to import: `status` need not wait for them.
    from echo_ingest.cli.serve import serve

    raise typer.Exit(serve(command, settings))


app.command(rich_help_panel=RUNNING)(check.check)
app.command(rich_help_panel=RUNNING)(verify.verify)
app.command(rich_help_panel=READING)(status.status)
app.add_typer(records.app, name="records", rich_help_panel=READING)
app.command(rich_help_panel=READING)(export.export)
app.add_typer(dead_letters.app, name="dead-letters", no_args_is_help=True, rich_help_panel=MENDING)
app.add_typer(parked.app, name="parked", no_args_is_help=True, rich_help_panel=MENDING)
app.add_typer(sinks.app, name="sinks", no_args_is_help=True, rich_help_panel=MENDING)
app.command(rich_help_panel=MENDING)(publish.publish)
app.command(rich_help_panel=MENDING)(sinks.migrate)
app.add_typer(nodes.app, name="nodes", no_args_is_help=True, rich_help_panel=ACCESS)


def main() -> None:
    """Entry point. What a person can mend is one plain line; anything else is our mistake."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        app(prog_name="echo-ingest")
    except SettingsError as error:
        say_error(str(error))
        sys.exit(2)
    except ActionError as error:
        say_error(str(error))
        sys.exit(2 if isinstance(error, InvalidInput) else 1)
    except (JournalUnusable, JournalFull, ConnectionLost, NoReceipt, BrokerError) as error:
        say_error(str(error))
        sys.exit(1)
    except apsw.BusyError:
        say_error("someone else is writing to the journal for more than 10 s; try again")
        sys.exit(1)
    except PermissionError as error:
        say_error(f"{error.filename}: permission denied; run this as the user that runs `up`")
        sys.exit(1)
    except OSError as error:
        say_error(f"{error.strerror}: {error.filename}" if error.filename else str(error))
        sys.exit(1)
