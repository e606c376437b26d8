"""A data folder that was used before, and has no journal or no secrets any more.

The service starts all the same, since devices wait. But it says so; for a journal it leaves a note,
too, which `check` reports until a person removes it.
"""

from datetime import UTC, datetime
from pathlib import Path

import structlog

from echo_ingest.almanac import almanac_path
from echo_ingest.settings.secrets import FOLDER

SECRETS = ("session-*", "http", "operator")
"""The service makes these only once it has a journal; `nodes add` and a broker do not."""
PROCESSES = ("web.pid", "delivery.pid")
"""They hold a number as soon as such a process has run."""

log = structlog.get_logger("journal")


def missed_note_of(path: Path) -> Path:
    """Return the note that the journal before the one at `path` is missed."""
    return path.with_name(f"{path.name}.missed.txt")


def note_if_missed(path: Path) -> None:
    """Before the journal at `path` is opened: note it if it is missing, and was there before."""
    if path.exists() and path.stat().st_size:
        return
    traces = _traces(path.parent)
    if not traces:
        return
    missed_note_of(path).write_text(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: the service found no journal at {path}, and "
        f"began a new one. There was one before: {', '.join(traces)} in the same folder come from "
        "it. All that it held is missing from the new one, and sinks may get records again.\n"
        f"If it was moved or saved ({path.name}.rescued-…, .damaged-…, .before-…), or its volume "
        "was not mounted: stop the service, keep the new journal under another name, put the old "
        f"one in its place as {path.name}, without files {path.name}-wal and {path.name}-shm of "
        "the new one, and start again.\n"
        "If it was removed on purpose, nothing is to be done. In either case remove this note "
        "afterwards.\n"
    )
    log.error(
        "new journal in a used folder",
        meaning=f"there was a journal at {path} before, and it is gone; if that was not on "
        f"purpose, stop the service and read {missed_note_of(path)}",
        traces=traces,
    )


def log_if_secrets_missed(path: Path) -> None:
    """Say that the secrets are gone, if the journal at `path` shows that there were some."""
    secrets = path.parent / FOLDER
    if secrets.exists() or not path.exists() or not path.stat().st_size:
        return
    log.error(
        "new secrets in a used folder",
        meaning=f"{secrets} is gone. New passwords and tokens are made now: devices that know old "
        "ones cannot connect, and what waits at the broker for us is lost; if that was not on "
        "purpose, stop the service, and bring the folder back",
    )


def _traces(folder: Path) -> list[str]:
    """Return what a service that had a journal has left in its data folder."""
    secrets = folder / FOLDER
    files = [almanac_path(folder), *(each for name in SECRETS for each in secrets.glob(name))]
    files += [folder / name for name in PROCESSES if _has_text(folder / name)]
    return sorted(str(each.relative_to(folder)) for each in files if each.exists())


def _has_text(path: Path) -> bool:
    return path.exists() and bool(path.read_bytes().strip())
