"""What commands share: the settings, the journal they name, and how a time is given."""

import os
import re
import sys
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import structlog
import typer

from echo_ingest import settings
from echo_ingest.journal.reader import JournalReader
from echo_ingest.settings import Settings


class Kind(StrEnum):
    """`record.KINDS`, as choices of an option."""

    detection = "detection"
    recording = "recording"
    telemetry = "telemetry"
    movement = "movement"


AGO = re.compile(r"(\d{1,6})\s*([smhdw])")
AGO_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def settings_of(context: typer.Context) -> Settings:
    """Settings from the environment and `--config`; raises `SettingsError`."""
    config: Path | None = context.obj
    return settings.load(os.environ, config)


def archive_of(chosen: Settings) -> JournalReader:
    """The journal, to be read; raises `JournalUnusable` if there is none."""
    return JournalReader(chosen.journal_path)


def given_time(text: str) -> datetime:
    """A time as a person gives it: `2h` (ago), or ISO 8601, local where it names no zone."""
    try:
        if ago := AGO.fullmatch(text.strip()):
            return datetime.now().astimezone() - timedelta(**{AGO_UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no time; write 2h or 3d (ago), or 2026-09-14T05:45"
        ) from None


OfNode = Annotated[str | None, typer.Option("--node", help="Only what this node sent.")]
OfKind = Annotated[
    Kind | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="Only one of detection, recording, telemetry, movement.",
    ),
]
Since = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        parser=given_time,
        metavar="TIME",
        help="Observed then or later: [b]2h[/], [b]3d[/] ago, or [b]2026-09-14T05:45[/].",
    ),
]
Until = Annotated[
    datetime | None,
    typer.Option("--until", parser=given_time, metavar="TIME", help="Observed before then."),
]


def log_from(level: int) -> None:
    """What a command uses of the service logs to standard error, from this level up."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
