"""Options and arguments that several commands share, and how to open the journal."""

import os
import re
import sys
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import structlog
import typer

from echo_ingest.decode import Decoder
from echo_ingest.journal.reader import JournalReader
from echo_ingest.settings import Settings, load


class Kind(StrEnum):
    """The kinds of `record.KINDS`, as choices of an option."""

    detection = "detection"
    recording = "recording"
    telemetry = "telemetry"
    movement = "movement"
    measurement = "measurement"


AGO = re.compile(r"(\d{1,6})\s*([smhdw])")
AGO_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def settings_of(context: typer.Context) -> Settings:
    """Load the settings from the environment and `--config`; raise `SettingsError`."""
    config: Path | None = context.obj
    return load(os.environ, config)


def open_reader(settings: Settings, decoder: Decoder | None = None) -> JournalReader:
    """Open the journal for reading; raise `JournalUnusable` if there is none.

    `decoder` as in `JournalReader`: that of the site, where records are selected by time.
    """
    return JournalReader(settings.journal_path, decoder)


def given_time(text: str) -> datetime:
    """Parse a time: `2h` means two hours ago; ISO 8601 without a zone is local time."""
    try:
        if ago := AGO.fullmatch(text.strip()):
            return datetime.now().astimezone() - timedelta(**{AGO_UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is not a time; write 2h or 3d for that long ago, or 2026-09-14T05:45"
        ) from None


OfNode = Annotated[
    str | None, typer.Option("--node", metavar="NAME", help="Only messages from this node.")
]
WithReason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Only those whose reason contains this text."),
]
OfKind = Annotated[
    Kind | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="Only this kind: detection, recording, telemetry, movement or measurement.",
    ),
]
Since = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        parser=given_time,
        metavar="TIME",
        help="Observed at or after this time: [b]2h[/] or [b]3d[/] (before now), or "
        "[b]2026-09-14T05:45[/].",
    ),
]
Until = Annotated[
    datetime | None,
    typer.Option("--until", parser=given_time, metavar="TIME", help="Observed before this time."),
]


def log_from(level: int) -> None:
    """Print log lines of this level and above on standard error; the others are dropped."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
