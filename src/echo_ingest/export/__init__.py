"""Export from the journal: tables for R, Python and spreadsheets, or a data package.

`gather` reads the journal into an unfinished export (`partial.py`) and may be interrupted at any
moment. Then the tables (`formats.py`) or the package (`camtrap/`) are written, and the export
becomes the folder that was asked for. `stream` writes rows as they are read, for a pipe. The same
journal and the same request give the same rows in the same order, and identical files.

Damaged records and records that this version cannot decode are left out and counted. They are never
exported as if they were complete.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import IO

from echo_ingest.columns import TABLES, Row
from echo_ingest.decode import Decoder
from echo_ingest.export import reading
from echo_ingest.export.partial import REASONS_MAX, ExportSummary, PartialExport, Progress
from echo_ingest.export.reading import Cause, JournalPage, Request, Walk
from echo_ingest.export.writers import (
    COLUMNS,
    CsvTable,
    json_line,
    row,
    write_csv,
    write_json_lines,
    write_parquet,
)
from echo_ingest.journal.reader import JournalReader
from echo_ingest.record import kind

WRITERS = {"csv": write_csv, "jsonl": write_json_lines}
REASONS_COUNTED_MAX = 1_000


def gather(
    reader: JournalReader, decoder: Decoder, partial: PartialExport, progress: Progress
) -> None:
    """Read the rest of the journal into `partial`."""
    for page in _read(reader, decoder, partial.request, partial.walk, progress):
        partial.add(page, decoder)


def write_tables(partial: PartialExport, progress: Progress) -> dict[str, int]:
    """Write a file for each kind of record that was asked for; return the rows of each table."""
    request, row_counts = partial.request, partial.summary().rows
    with progress(sum(row_counts.values()), "writing") as advance:
        for each in reading.kinds(request):
            rows = _advancing(partial.rows(each), advance)
            with partial.file(f"{TABLES[each]}.{request.format}") as file:
                if request.format == "parquet":
                    write_parquet(file, COLUMNS[each], rows, partial.row_bytes_max(each))
                else:
                    WRITERS[request.format](file, COLUMNS[each], rows)
    return {TABLES[each]: row_counts.get(each, 0) for each in reading.kinds(request)}


def stream(
    reader: JournalReader, decoder: Decoder, request: Request, file: IO[bytes], progress: Progress
) -> ExportSummary:
    """Write rows to `file` as they are read: CSV of one kind, or JSON Lines of any."""
    rows: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    reasons = Counter[tuple[Cause, str]]()
    gone = 0
    kinds = reading.kinds(request)
    is_csv = request.format == "csv" and len(kinds) == 1
    table = CsvTable(file, COLUMNS[kinds[0]]) if is_csv else None
    for page in _read(reader, decoder, request, reading.start(reader, request), progress):
        for each in page.records:
            of_kind, values = kind(each.record), row(each.entry, each.index, each.record, None)
            if table is not None:
                table.add(values)
            else:
                file.write(json_line(COLUMNS[of_kind], values))
            rows[of_kind] += 1
        for without in page.left_out:
            left_out[without.cause] += 1
            reason = without.reason if len(reasons) < REASONS_COUNTED_MAX else "other reasons"
            reasons[without.cause, reason] += 1
        gone += page.gone
    file.flush()
    return ExportSummary(
        rows=dict(rows),
        clips=0,
        clip_bytes=0,
        gone=gone,
        left_out=dict(sorted(left_out.items())),
        reasons=[
            (cause, reason, count) for (cause, reason), count in reasons.most_common(REASONS_MAX)
        ],
    )


def _read(
    reader: JournalReader, decoder: Decoder, request: Request, walk: Walk, progress: Progress
) -> Iterator[JournalPage]:
    with progress(walk.last - walk.position, "reading") as advance:
        position = walk.position
        for page in reading.pages(reader, decoder, request, walk):
            yield page
            advance(page.up_to - position)
            position = page.up_to


def _advancing(rows: Iterable[Row], advance: Callable[[int], None]) -> Iterator[Row]:
    for each in rows:
        yield each
        advance(1)
