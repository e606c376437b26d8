"""The command line, `echo-ingest`; docs/cli.md describes every command.

A command's file has its name; `up`, `run`, `broker` and `demo` are in `serve.py`, and `migrate` is
in `sinks.py`.
"""

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
    forms,
    import_files,
    nodes,
    parked,
    publish,
    records,
    sinks,
    status,
    unclaimed,
    verify,
)
from echo_ingest.cli.options import settings_of
from echo_ingest.cli.output import say_error
from echo_ingest.journal import JournalFull, JournalUnusable
from echo_ingest.mqtt import ConnectionLost
from echo_ingest.pipeline.confirmed_publish import NoReceipt
from echo_ingest.settings import SettingsError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
RUN, READ, DELIVER = "Run and check", "Read and export records", "Publish, deliver and retry"
ACCESS = "Control access"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"echo-ingest {echo_ingest.__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="A TOML file with settings."
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Durable MQTT ingestion for acoustic sensor networks in the field.

    Settings come from the environment ([b]IOT_DATA_DIR[/], [b]IOT_ENDPOINT[/], …) or from a file.
    """
    context.obj = config


@app.command(rich_help_panel=RUN)
def up(context: typer.Context) -> None:
    """Run everything: the broker, ingestion, delivery and HTTP."""
    _serve("up", context)


@app.command(rich_help_panel=RUN)
def run(context: typer.Context) -> None:
    """Run all but the broker; use that at [b]IOT_ENDPOINT[/], or those of [b]IOT_ENDPOINTS[/]."""
    _serve("run", context)


@app.command(rich_help_panel=RUN)
def broker(context: typer.Context) -> None:
    """Run only the broker."""
    _serve("broker", context)


@app.command(rich_help_panel=RUN)
def demo(context: typer.Context) -> None:
    """Run [b]up[/] with simulated devices, and show the message ledger live."""
    _serve("demo", context)


def _serve(command: Literal["up", "run", "broker", "demo"], context: typer.Context) -> NoReturn:
    settings = settings_of(context)
    # The servers' libraries take most of a second to import; `status` must not wait for that.
    from echo_ingest.cli.serve import serve

    raise typer.Exit(serve(command, settings))


app.command(rich_help_panel=RUN)(check.check)
app.command(rich_help_panel=RUN)(verify.verify)
app.command(rich_help_panel=READ)(status.status)
app.add_typer(records.app, name="records", rich_help_panel=READ)
app.command(rich_help_panel=READ)(export.export)
app.add_typer(dead_letters.app, name="dead-letters", no_args_is_help=True, rich_help_panel=DELIVER)
app.add_typer(forms.app, name="forms", no_args_is_help=True, rich_help_panel=DELIVER)
app.add_typer(unclaimed.app, name="unclaimed", no_args_is_help=True, rich_help_panel=DELIVER)
app.add_typer(parked.app, name="parked", no_args_is_help=True, rich_help_panel=DELIVER)
app.add_typer(sinks.app, name="sinks", no_args_is_help=True, rich_help_panel=DELIVER)
app.command(rich_help_panel=DELIVER)(publish.publish)
app.command("import", rich_help_panel=DELIVER)(import_files.import_files)
app.command(rich_help_panel=DELIVER)(sinks.migrate)
app.add_typer(nodes.app, name="nodes", no_args_is_help=True, rich_help_panel=ACCESS)


def main() -> None:
    """Run the command; print an error that a person can correct as one plain line.

    Any other exception is a bug of ours, and its traceback is shown.
    """
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
        say_error("another program has been writing to the journal for more than 10 s; try again")
        sys.exit(1)
    except PermissionError as error:
        say_error(
            f"{error.filename}: permission denied; run this as the user that runs the service"
        )
        sys.exit(1)
    except OSError as error:
        say_error(f"{error.strerror}: {error.filename}" if error.filename else str(error))
        sys.exit(1)
