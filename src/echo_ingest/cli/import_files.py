"""`import`: take in tables of classifiers and folders of recordings, as messages of their node.

Each row of a table is a message of its own, with the header before it if there is one. So a row
that is there already is a duplicate however the table has grown or was split, and an import that
was interrupted is simply repeated. Every message is tried with the service's own forms first: what
is in none of them, or would get the time of receipt for its own, is not sent.
"""

import asyncio
import contextlib
import csv
import io
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, TextIO
from zoneinfo import ZoneInfo

import typer
from msgspec import structs

from echo_ingest.cli.connection import require_publisher
from echo_ingest.cli.options import log_from, settings_of
from echo_ingest.cli.output import fail, progress, say, say_error
from echo_ingest.cli.publish import (
    AUDIO_SUFFIXES,
    NOT_ACCEPTED,
    NOT_UNDERSTOOD,
    REASONS_SHOWN_MAX,
    REJECTED,
    OutgoingMessage,
    Sending,
    summary,
)
from echo_ingest.decode import Decoder
from echo_ingest.formatting import counted
from echo_ingest.record import AnyRecord, Ignored, Message, Rejected
from echo_ingest.settings import Settings
from echo_ingest.settings.site import check_zone
from echo_ingest.settings.topics import matches
from echo_ingest.site_decoder import decoder_of

SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
"""Those of tables, by the ends of their files' names."""
DOCUMENTS = (".json",)
RECORDING_COLUMNS = frozenset(("File", "Begin Path", "Begin File"))
"""Columns that name the recording."""
ADDED_COLUMN = {",": "File", "\t": "Begin Path"}
"""What the column is called that is added where no other names the recording."""
ROW_CHARACTERS_MAX = 1_000_000
IGNORED = "ignored"

_TOOL = re.compile(r"\.BirdNET\b.*")


def import_files(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", exists=True, help="Tables, recordings, or folders."),
    ],
    node: Annotated[str, typer.Option(metavar="NAME", help="The node that heard all of it.")],
    form: Annotated[
        str | None, typer.Option(metavar="FORM", help="The form that everything must be in.")
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="The zone of times in names of files; else IOT_ZONE."),
    ] = None,
) -> None:
    """Take in tables of results and folders of recordings, as messages of a node.

    Tables of BirdNET-Analyzer (CSV and Raven's selections), annotations of
    BatDetect2, and recordings whose names or headers say when they began.
    What is there already is a duplicate: after an interruption, type the
    same command again. Each message is confirmed once it is on disk.
    """
    settings = settings_of(context)
    if not node or set(node) & set("+#/\0"):
        fail(f"{node!r} cannot be the name of a node; use a name without +, # and /", 2)
    _require_receipts(settings, node)
    files = _files(paths)
    trial = _FileTrial(settings, _zone(settings, files, zone), node, form)
    options = require_publisher(settings)
    sending = Sending(options, node, settings.payload_bytes_max, None)
    log_from(logging.CRITICAL)  # if it cannot begin, the error says so
    total = sum(_count(file) for file in files)
    try:
        with progress(total, "importing") as advance:
            messages = trial.passed(files, sending.outcomes, advance)
            asyncio.run(sending.run(messages, advance))
    finally:
        if figures := summary(sending.outcomes):
            say(f"{counted(len(files), 'files')}: {figures}")
    if any(sending.outcomes[each] for each in (REJECTED, NOT_ACCEPTED, NOT_UNDERSTOOD)):
        raise typer.Exit(1)


def _require_receipts(settings: Settings, node: str) -> None:
    """End where no receipt would come, because the service takes none of it for this node's."""
    topic = f"{settings.topic_prefixes[0]}/{node}"
    for each in (topic, f"{topic}/recording"):
        if settings.node_of(each) != node:
            fail(f"{node!r:.80} cannot be the name of a node; a name has up to 64 characters", 2)
        if not any(matches(topic_filter, each) for topic_filter in settings.topic_filters):
            fail(
                f"nothing is ingested from {each}, and IOT_TOPIC is {settings.topic}: add "
                f"{settings.topic_prefixes[0]}/#",
                2,
            )


def _files(paths: list[Path]) -> list[Path]:
    """Return the files to import, each once: of a folder, those that can be imported."""
    files: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            within = sorted(each for each in path.rglob("*") if _is_importable(each))
            files |= dict.fromkeys(within)
        elif _is_importable(path):
            files[path] = None
        else:
            known = ", ".join((*AUDIO_SUFFIXES, *SEPARATORS, *DOCUMENTS))
            fail(f"{path} is no table and no recording; name files that end in {known}", 2)
    if not files:
        fail("there is nothing to import: no table and no recording is in these folders", 2)
    return list(files)


def _is_importable(path: Path) -> bool:
    suffixes = (*AUDIO_SUFFIXES, *SEPARATORS, *DOCUMENTS)
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()


def _is_recording(file: Path) -> bool:
    return file.suffix.lower() in AUDIO_SUFFIXES


def _zone(settings: Settings, files: list[Path], given: str | None) -> ZoneInfo:
    """Return the zone of times that name none; the service has to read tables in the same one."""
    name = given or settings.zone
    if name is None:
        fail(
            "in which zone did the recorder's clock run? Names of files do not say it: add "
            "--zone, such as --zone Australia/Melbourne, or set IOT_ZONE",
            2,
        )
    try:
        check_zone(name)
    except ValueError as error:
        fail(f"--zone {name}: there is no such zone; {error}", 2)
    if name != settings.zone and not all(_is_recording(file) for file in files):
        fail(
            "the service reads tables in the zone of its site, and that is "
            f"{settings.zone or 'not set'}: set IOT_ZONE={name} there and here, or import only "
            "recordings",
            2,
        )
    return ZoneInfo(name)


def _count(file: Path) -> int:
    separator = SEPARATORS.get(file.suffix.lower())
    return 1 if separator is None else sum(1 for _ in rows_of(file, separator))


# ---------------------------------------------------------------------- what is in a file


def rows_of(file: Path, separator: str) -> Iterator[tuple[int, bytes]]:
    """Yield each row of a table below its header, with the number of its line.

    Where no column names the recording, one is added: the table's own name tells it.
    """
    header: str | None = None
    added = ""
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        for number, row in _whole_rows(lines):
            if header is None:
                header = row
                names: list[str] = []
                with contextlib.suppress(csv.Error):  # no form knows a header of that size
                    names = next(csv.reader([row], delimiter=separator), [])
                if not RECORDING_COLUMNS & {name.strip() for name in names}:
                    header += separator + ADDED_COLUMN[separator]
                    added = separator + _cell(recording_of(file), separator)
            else:
                yield number, f"{header}\n{row}{added}\n".encode(errors="surrogateescape")


def lines_of(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line of a file without a header, with its number."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        for number, row in _whole_rows(lines):
            yield number, f"{row}\n".encode(errors="surrogateescape")


def recording_of(table: Path) -> str:
    """Return the name of the recording that a table is about, by the name of the table."""
    return _TOOL.sub("", table.stem)


def _whole_rows(lines: TextIO) -> Iterator[tuple[int, str]]:
    """Yield rows that are not empty; text in quotes may go over several lines.

    A quote that is never closed, or a file that is no table, costs so much memory and no more.
    """
    pending, quotes, began, number = "", 0, 1, 1
    while line := lines.readline(ROW_CHARACTERS_MAX):
        began = began if pending else number
        pending += line
        quotes += line.count('"')
        is_ended = line.endswith(("\r", "\n"))
        number += is_ended
        if (is_ended and quotes % 2 == 0) or len(pending) >= ROW_CHARACTERS_MAX:
            if row := pending.rstrip("\r\n"):
                yield began, row
            pending, quotes = "", 0
    if pending:
        yield began, pending.rstrip("\r\n")


def _cell(text: str, separator: str) -> str:
    cell = io.StringIO()
    csv.writer(cell, delimiter=separator, lineterminator="").writerow([text])
    return cell.getvalue()


# ---------------------------------------------------------------------- trying before sending


class _FileTrial:
    """Decodes messages as the service will, and passes on those that it will understand."""

    def __init__(self, settings: Settings, zone: ZoneInfo, node: str, form: str | None) -> None:
        decoder = decoder_of(settings)
        self._decoder: Decoder = structs.replace(
            decoder, rules=structs.replace(decoder.rules, zone=zone)
        )
        if form is not None and (decoder.forms is None or decoder.forms.named(form) is None):
            fail(f"there is no form {form!r}; docs/form-files.md says which there are", 2)
        self._zone_is_sites = settings.zone == zone.key
        self._topic = f"{settings.topic_prefixes[0]}/{node}"
        self._node, self._form = node, form
        self._problems = 0

    def passed(
        self, files: list[Path], outcomes: dict[str, int], advance: Callable[[int], None]
    ) -> Iterator[OutgoingMessage]:
        """Yield the messages to send; count those that are not in `outcomes`."""
        for file in files:
            reason = self._why_too_large(file)
            for message in self._messages(file) if reason is None else ():
                decoded = self._decoded(message)
                if isinstance(decoded, tuple):
                    yield self._with_time(message, decoded)
                    continue
                outcomes[IGNORED if decoded is None else NOT_UNDERSTOOD] += 1
                advance(1)
                if decoded is not None:
                    self._say_why(message.origin, decoded)
            if reason is not None:
                outcomes[NOT_UNDERSTOOD] += 1
                advance(1)
                self._say_why(str(file), reason)

    def _why_too_large(self, file: Path) -> str | None:
        """Return why a file is not read, which would take as much memory as it has bytes."""
        size, size_max = file.stat().st_size, self._decoder.payload_bytes_max
        if file.suffix.lower() in SEPARATORS or size <= size_max:
            return None
        return (
            f"it has {size:,} bytes, more than the {size_max:,} that IOT_PAYLOAD_BYTES_MAX allows"
        )

    def _messages(self, file: Path) -> Iterator[OutgoingMessage]:
        separator = SEPARATORS.get(file.suffix.lower())
        if separator is not None:
            rows = lines_of(file) if self._has_no_header(file) else rows_of(file, separator)
            for line, payload in rows:
                yield OutgoingMessage(self._topic, payload, file, line)
        elif _is_recording(file):
            yield OutgoingMessage(f"{self._topic}/recording", file.read_bytes(), file)
        else:
            yield OutgoingMessage(self._topic, file.read_bytes(), file)

    def _has_no_header(self, file: Path) -> bool:
        """Return whether a form reads the first line as it is: as a header it would be repeated."""
        forms = self._decoder.forms
        first = next(lines_of(file), None)
        if forms is None or first is None:
            return False
        fit = forms.fit(Message(self._topic, first[1], 0, self._node))
        return fit is not None and fit.form.match.payload == "lines"

    def _decoded(self, message: OutgoingMessage) -> tuple[AnyRecord, ...] | str | None:
        """Return the records, or why it is not sent; None: a form ignores it."""
        now_ms = time.time_ns() // 1_000_000
        arrived = Message(
            message.topic, message.payload, now_ms, self._node, properties=message.properties
        )
        decoded = self._decoder.identified(arrived, hashed=False)
        if isinstance(decoded, Rejected):
            return decoded.render()
        if isinstance(decoded, Ignored):
            return None
        records = decoded.records
        if self._form is not None and records[0].form != self._form:
            return f"it is in the form {records[0].form}, and not in {self._form}"
        if any(record.time_source != "device" for record in records):
            return (
                "when it was recorded is not known: let the recording's name have date and time, "
                "such as 20261005_060000"
            )
        return records

    def _with_time(
        self, message: OutgoingMessage, records: tuple[AnyRecord, ...]
    ) -> OutgoingMessage:
        """Give a recording its time where the service would read its name in another zone."""
        if self._zone_is_sites or not _is_recording(message.file):
            return message
        recorded_at = f"{records[0].observed_at:%Y-%m-%dT%H:%M:%S.%fZ}"
        return structs.replace(message, more_properties=(("recorded_at", recorded_at),))

    def _say_why(self, origin: str, reason: str) -> None:
        """Print why a message is not sent, for the first few: a file often repeats one mistake."""
        self._problems += 1
        if self._problems <= REASONS_SHOWN_MAX:
            say_error(f"{origin}: {reason}")
