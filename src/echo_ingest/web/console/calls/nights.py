"""What called, night by night: the table that says in the morning what called last night. Pure.

A night goes from noon to noon. The newest comes first: it is what people ask for, and on a phone
what they see. Nights in which nothing called have their column too, since silence is a finding.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from echo_ingest.almanac import Night, SpeciesNight
from echo_ingest.web.console import formatting
from echo_ingest.web.console.calls.query import CallsQuery, address
from echo_ingest.web.console.common_names import known_as

NIGHTS = 14
ROWS_MAX = 60
SHADES = 4
MORNING_HOUR, NOON_HOUR = 5, 12


class NightColumn(Struct, frozen=True):
    """A night."""

    evening: date
    """The day on whose evening it begins."""
    name: str
    """`tonight`, `last night`, `Mon 23 Nov`."""
    in_full: str
    calls: int
    species: int
    href: str | None
    """Its calls; None where there are none."""


class NightCell(Struct, frozen=True):
    """A species in a night."""

    calls: int
    nodes: int
    shade: int
    """1 to `SHADES`."""
    href: str
    """These calls."""
    best_href: str
    """The one whose device was most confident."""
    best_confidence: float | None
    """Fraction, 0 to 1."""
    first_at_ms: int
    last_at_ms: int


class SpeciesRow(Struct, frozen=True):
    """A species, and a cell for each night; None where it was not heard."""

    species: str
    common_name: str | None
    cells: Sequence[NightCell | None]
    calls: int
    href: str
    """All its calls."""


class NightsTable(Struct, frozen=True):
    """Species by night."""

    columns: Sequence[NightColumn]
    """The newest first."""
    rows: Sequence[SpeciesRow]
    """The species with the most calls first."""
    left_out: int
    """Species with fewer calls, for which there is no row."""

    def called(self, name: str) -> tuple[NightColumn, SpeciesRow | None] | None:
        """The column of that name, and the species that called most often in it."""
        for index, column in enumerate(self.columns):
            if column.name == name:
                rows = [row for row in self.rows if row.cells[index] is not None]
                return column, max(rows, key=lambda row: _calls(row.cells[index]), default=None)
        return None


def table(found: Sequence[Night], asked: CallsQuery, now: datetime, zone: ZoneInfo) -> NightsTable:
    """Lay out the nights in which something called, those between, and this one.

    Where nothing has called for so long that it would not be seen, with the last in which it did;
    so too where only a part of all time is asked for.
    """
    by_evening = {night.evening: night for night in found}
    newest = formatting.night_of(now, zone)
    last = max(by_evening, default=newest)
    if last <= newest - timedelta(days=NIGHTS) or asked.since or asked.until:
        newest = last
    evenings = [newest - timedelta(days=back) for back in range(NIGHTS)]
    oldest = min((evening for evening in evenings if evening in by_evening), default=newest)
    evenings = [evening for evening in evenings if evening >= oldest]
    nights = [by_evening.get(evening) for evening in evenings]
    heard = [{each.species: each for each in night.species} if night else {} for night in nights]
    most = max((each.calls for night in heard for each in night.values()), default=1)
    rows = []
    for species in {name: None for night in heard for name in night}:
        cells = [
            _cell(night, its[species], asked, most, zone) if night and species in its else None
            for night, its in zip(nights, heard, strict=True)
        ]
        rows.append(_row(species, cells, heard, asked, zone))
    rows.sort(key=lambda row: (-row.calls, row.species))
    columns = [_column(evening, by_evening.get(evening), asked, now, zone) for evening in evenings]
    return NightsTable(columns, rows[:ROWS_MAX], max(0, len(rows) - ROWS_MAX))


def night_name(evening: date, now: datetime, zone: ZoneInfo) -> str:
    """What people call it at `now`: from the morning on, the one that still runs is the last."""
    is_morning = MORNING_HOUR <= now.astimezone(zone).hour < NOON_HOUR
    match (formatting.night_of(now, zone) - evening).days + is_morning:
        case 0:
            return "tonight"
        case 1:
            return "last night"
    return f"{evening:%a} {evening.day} {evening:%b}"


def shade(calls: int, most: int) -> int:
    """1 for next to none, `SHADES` for as many as the `most` of any cell.

    Fewer calls are shaded more than in proportion: a chorus of frogs must not pale all the rest.
    """
    return 1 + round((SHADES - 1) * math.pow(calls / most, 0.7))


def _calls(cell: NightCell | None) -> int:
    return 0 if cell is None else cell.calls


def _row(
    species: str,
    cells: Sequence[NightCell | None],
    heard: Sequence[Mapping[str, SpeciesNight]],
    asked: CallsQuery,
    zone: ZoneInfo,
) -> SpeciesRow:
    said = (night[species].common_name for night in heard if species in night)
    return SpeciesRow(
        species,
        known_as(species, next(filter(None, said), None)),
        cells,
        sum(map(_calls, cells)),
        address(replace(asked, species=species, before=None), zone),
    )


def _cell(
    night: Night, its: SpeciesNight, asked: CallsQuery, most: int, zone: ZoneInfo
) -> NightCell:
    return NightCell(
        its.calls,
        its.nodes,
        shade(its.calls, most),
        address(replace(_within(night, asked), species=its.species), zone),
        f"/console/calls/{its.best_offset}",
        its.best_confidence,
        its.first_at_ms,
        its.last_at_ms,
    )


def _column(
    evening: date, night: Night | None, asked: CallsQuery, now: datetime, zone: ZoneInfo
) -> NightColumn:
    return NightColumn(
        evening,
        night_name(evening, now, zone),
        formatting.night_name(evening),
        sum(each.calls for each in night.species) if night else 0,
        len(night.species) if night else 0,
        address(_within(night, asked), zone) if night else None,
    )


def _within(night: Night, asked: CallsQuery) -> CallsQuery:
    """The same, of that night alone, or of the part of it that was asked for."""
    since, until = (
        datetime.fromtimestamp(ms / 1000, UTC) for ms in (night.since_ms, night.until_ms)
    )
    since = max(since, asked.since) if asked.since else since
    until = min(until, asked.until) if asked.until else until
    return replace(asked, since=since, until=until, before=None)
