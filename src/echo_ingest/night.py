"""Nights: which one a moment lies in, when it begins and ends, and what people call it. Pure.

A night goes from noon to noon, by the clocks of a zone, so that an evening and the morning after it
belong together; it lasts 23 or 25 hours where the clocks change. It is named by its evening.

`last night` is the night whose evening was yesterday: the one that is ending, or has ended, before
noon; and the one that ended at noon, from then on until midnight. `tonight` is the night whose
evening is today: it begins at noon, and at midnight it becomes `last night`.
"""

from datetime import date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.formatting import milliseconds, utc

DAY = timedelta(days=1)
NOON = time(12)


class NightSpan(Struct, frozen=True):
    """One night in one zone."""

    evening: date
    """The local day at whose noon it begins."""
    since_ms: int
    until_ms: int
    """From when and before when it lasts: milliseconds since 1970, UTC."""


def night_from(evening: date, zone: ZoneInfo) -> NightSpan:
    """Return the night that begins at noon of this day; empty where the zone left the day out."""
    return NightSpan(evening, _noon_ms(evening, zone), _noon_ms(evening + DAY, zone))


def night_of(when: datetime | int, zone: ZoneInfo) -> NightSpan:
    """Return the night of a moment, which is aware or in milliseconds since 1970."""
    at_ms = when if isinstance(when, int) else milliseconds(when)
    evening = utc(at_ms).astimezone(zone).date()
    while at_ms < _noon_ms(evening, zone):
        evening -= DAY
    return night_from(evening, zone)


def last_night(now: datetime, zone: ZoneInfo) -> NightSpan:
    """Return the night that is called `last night` at `now`: the one before today's noon."""
    return night_of(_noon_ms(now.astimezone(zone).date(), zone) - 1, zone)


def tonight(now: datetime, zone: ZoneInfo) -> NightSpan | None:
    """Return the night that is called `tonight` at `now`; None before noon."""
    night = night_of(now, zone)
    return night if night.evening == now.astimezone(zone).date() else None


def word_for(
    evening: date, now: datetime, zone: ZoneInfo
) -> Literal["tonight", "last night"] | None:
    """Return what people call a night at `now`; None where they name its day."""
    if evening == last_night(now, zone).evening:
        return "last night"
    night = tonight(now, zone)
    return "tonight" if night is not None and evening == night.evening else None


def _noon_ms(day: date, zone: ZoneInfo) -> int:
    return milliseconds(datetime.combine(day, NOON, zone))
