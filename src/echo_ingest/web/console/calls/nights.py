"""Species by night: the table that answers in the morning what called last night. Pure.

The newest night comes first: it is what people ask for, and what they see on a phone. Nights
without a call have their column too, since silence is a finding.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from echo_ingest.almanac import Night, SpeciesNight
from echo_ingest.formatting import utc
from echo_ingest.night import night_of, word_for
from echo_ingest.web.console import formatting
from echo_ingest.web.console.calls.query import CallsQuery, address
from echo_ingest.web.console.common_names import known_as

NIGHTS = 14
ROWS_MAX = 60
SHADES = 4


class NightColumn(Struct, frozen=True, kw_only=True):
    """A night."""

    evening: date
    """The day on whose evening it begins."""
    name: str
    """`tonight`, `last night`, `Mon 23 Nov`."""
    in_full: str
    calls: int
    species: int
    href: str | None
    """The address of its calls; None where there are none."""


class NightCell(Struct, frozen=True, kw_only=True):
    """A species in a night."""

    calls: int
    nodes: int
    shade: int
    """1 to `SHADES`."""
    href: str
    """The address of these calls."""
    best_href: str
    """The address of the call with the highest confidence."""
    best_confidence: float | None
    """Fraction, 0 to 1."""
    first_at_ms: int
    last_at_ms: int


class SpeciesRow(Struct, frozen=True):
    """A species, with a cell for each night; None where it did not call."""

    species: str
    common_name: str | None
    cells: Sequence[NightCell | None]
    calls: int
    href: str
    """The address of all its calls."""


class NightsTable(Struct, frozen=True):
    """Species by night."""

    columns: Sequence[NightColumn]
    """The newest first."""
    rows: Sequence[SpeciesRow]
    """The species with the most calls first."""
    left_out: int
    """Species with fewer calls, for which there is no row."""

    def called(self, name: str) -> tuple[NightColumn, SpeciesRow | None] | None:
        """Return the column of that name, and the species with the most calls in it."""
        for index, column in enumerate(self.columns):
            if column.name == name:
                rows = [row for row in self.rows if row.cells[index] is not None]
                return column, max(rows, key=lambda row: _calls(row.cells[index]), default=None)
        return None


def table(
    with_calls: Sequence[Night], query: CallsQuery, now: datetime, zone: ZoneInfo
) -> NightsTable:
    """Lay out the nights with calls, those between them, and the current one.

    Where the last call is so long ago that its night would not be seen, the table ends with that
    night; so too where the query is for a part of all time.
    """
    by_evening = {night.evening: night for night in with_calls}
    newest = night_of(now, zone).evening
    last = max(by_evening, default=newest)
    if last <= newest - timedelta(days=NIGHTS) or query.since or query.until:
        newest = last
    evenings = [newest - timedelta(days=back) for back in range(NIGHTS)]
    oldest = min((evening for evening in evenings if evening in by_evening), default=newest)
    evenings = [evening for evening in evenings if evening >= oldest]
    nights = [by_evening.get(evening) for evening in evenings]
    by_species = [
        {each.species: each for each in night.species} if night else {} for night in nights
    ]
    most = max((each.calls for night in by_species for each in night.values()), default=1)
    rows = []
    for species in {name: None for night in by_species for name in night}:
        cells = [
            _cell(night, called[species], query, most, zone)
            if night and species in called
            else None
            for night, called in zip(nights, by_species, strict=True)
        ]
        rows.append(_row(species, cells, by_species, query, zone))
    rows.sort(key=lambda row: (-row.calls, row.species))
    columns = [_column(evening, by_evening.get(evening), query, now, zone) for evening in evenings]
    return NightsTable(columns, rows[:ROWS_MAX], max(0, len(rows) - ROWS_MAX))


def night_name(evening: date, now: datetime, zone: ZoneInfo) -> str:
    """Name a night as people do at `now`."""
    return word_for(evening, now, zone) or f"{evening:%a} {evening.day} {evening:%b}"


def shade(calls: int, most: int) -> int:
    """Return 1 for next to none, `SHADES` for as many calls as the `most` of any cell.

    Few calls are darker than in proportion, so that a chorus of frogs does not pale the rest.
    """
    return 1 + round((SHADES - 1) * math.pow(calls / most, 0.7))


def _calls(cell: NightCell | None) -> int:
    return 0 if cell is None else cell.calls


def _row(
    species: str,
    cells: Sequence[NightCell | None],
    by_species: Sequence[Mapping[str, SpeciesNight]],
    query: CallsQuery,
    zone: ZoneInfo,
) -> SpeciesRow:
    names = (night[species].common_name for night in by_species if species in night)
    return SpeciesRow(
        species,
        known_as(species, next(filter(None, names), None)),
        cells,
        sum(map(_calls, cells)),
        address(replace(query, species=species, before=None), zone),
    )


def _cell(
    night: Night, called: SpeciesNight, query: CallsQuery, most: int, zone: ZoneInfo
) -> NightCell:
    return NightCell(
        calls=called.calls,
        nodes=called.nodes,
        shade=shade(called.calls, most),
        href=address(replace(_within(night, query), species=called.species), zone),
        best_href=f"/console/calls/{called.best_record}",
        best_confidence=called.best_confidence,
        first_at_ms=called.first_at_ms,
        last_at_ms=called.last_at_ms,
    )


def _column(
    evening: date, night: Night | None, query: CallsQuery, now: datetime, zone: ZoneInfo
) -> NightColumn:
    return NightColumn(
        evening=evening,
        name=night_name(evening, now, zone),
        in_full=formatting.night_name(evening),
        calls=sum(each.calls for each in night.species) if night else 0,
        species=len(night.species) if night else 0,
        href=address(_within(night, query), zone) if night else None,
    )


def _within(night: Night, query: CallsQuery) -> CallsQuery:
    """Narrow a query down to a night, or to the part of it that the query covers."""
    since, until = (utc(ms) for ms in (night.since_ms, night.until_ms))
    since = max(since, query.since) if query.since else since
    until = min(until, query.until) if query.until else until
    return replace(query, since=since, until=until, before=None)
