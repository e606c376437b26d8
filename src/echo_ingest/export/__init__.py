"""Taking data out of the journal: tables for R, Python and spreadsheets, or a data package.

`gather` reads the journal into an export under way, and may be cut short at any moment
(`partial.py`); then the tables or the package are written, and it becomes the folder that was asked
for. `stream` gives rows as they are read, for a pipe. The same journal and the same request give
the same rows in the same order, and files that are the same to the byte.

Damaged records and those that this version does not decode are left out and counted, and never
given as if they were whole.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import IO

from echo_ingest.columns import TABLES, Row
from echo_ingest.export import csv_table, json_lines, parquet, reading
from echo_ingest.export.csv_table import CsvTable
from echo_ingest.export.partial import REASONS_MAX, ExportSummary, PartialExport, Progress
from echo_ingest.export.reading import Cause, JournalPage, Request, Walk
from echo_ingest.export.record_rows import COLUMNS, row
from echo_ingest.journal.reader import JournalReader
from echo_ingest.record import kind

WRITERS = {"csv": csv_table.write, "jsonl": json_lines.write, "parquet": parquet.write}
REASONS_COUNTED_MAX = 1_000


def gather(archive: JournalReader, partial: PartialExport, progress: Progress) -> None:
    """Read what is still to be read."""
    for page in _read(archive, partial.request, partial.walk, progress):
        partial.add(page)


def write_tables(partial: PartialExport, progress: Progress) -> dict[str, int]:
    """Write a file for each kind of record that was asked for; return how many rows each has."""
    request, gathered = partial.request, partial.gathered().rows
    with progress(sum(gathered.values()), "writing") as advance:
        for each in reading.kinds(request):
            rows = _counted(partial.rows(each), advance)
            with partial.file(f"{TABLES[each]}.{request.format}") as file:
                WRITERS[request.format](file, COLUMNS[each], rows)
    return {TABLES[each]: gathered.get(each, 0) for each in reading.kinds(request)}


def stream(
    archive: JournalReader, request: Request, file: IO[bytes], progress: Progress
) -> ExportSummary:
    """Write rows to `file` as they are read: CSV of one kind, or JSON Lines of any."""
    rows: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    reasons = Counter[tuple[Cause, str]]()
    gone = 0
    (of_kind, *more) = reading.kinds(request)
    table = CsvTable(file, COLUMNS[of_kind]) if request.format == "csv" and not more else None
    for page in _read(archive, request, reading.start(archive, request), progress):
        for entry, record in page.records:
            if table is not None:
                table.add(row(entry, record, None))
            else:
                file.write(json_lines.line(COLUMNS[kind(record)], row(entry, record, None)))
            rows[kind(record)] += 1
        for each in page.left_out:
            left_out[each.cause] += 1
            reason = each.reason if len(reasons) < REASONS_COUNTED_MAX else "other reasons"
            reasons[each.cause, reason] += 1
        gone += page.gone
    file.flush()
    return ExportSummary(
        rows=dict(rows),
        clips=0,
        clip_bytes=0,
        gone=gone,
        left_out=dict(sorted(left_out.items())),
        reasons=[(*why, count) for why, count in reasons.most_common(REASONS_MAX)],
    )


def _read(
    archive: JournalReader, request: Request, walk: Walk, progress: Progress
) -> Iterator[JournalPage]:
    with progress(walk.last - walk.position, "reading") as advance:
        position = walk.position
        for page in reading.pages(archive, request, walk):
            yield page
            advance(page.up_to - position)
            position = page.up_to


def _counted(rows: Iterable[Row], advance: Callable[[int], None]) -> Iterator[Row]:
    for each in rows:
        yield each
        advance(1)
