"""Rows of calls and recordings, as several pages show them. Pure."""

from collections.abc import Sequence
from datetime import date
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.almanac import ListedCall, ListedRecording
from echo_ingest.night import night_of
from echo_ingest.web.console import formatting
from echo_ingest.web.console.common_names import known_as


class CallRow(Struct, frozen=True, kw_only=True):
    """A call, or a recording without a species."""

    href: str
    at_ms: int
    """When it was observed: milliseconds since 1970, UTC."""
    at: str
    """The same as a clock shows it: `03:12:45`, with the zone where the table has more than one."""
    is_receipt: bool
    """The time is that of receipt, since the device gave none that can be believed."""
    night: date
    node: str
    """Empty where the topic names none."""
    species: str = ""
    common_name: str | None = None
    confidence: float | None = None
    """Fraction, 0 to 1."""
    has_sound: bool = False
    seconds: float = 0.0
    """How long a recording is."""


class CallRows(Struct, frozen=True):
    """A page of the list."""

    lines: Sequence[CallRow]
    zone_name: str | None
    """The zone of all rows; None where the clocks were changed in between."""


def of_calls(calls: Sequence[ListedCall], zone: ZoneInfo) -> CallRows:
    """Return a row for each call."""
    name = zone_name([call.observed_at_ms for call in calls], zone)
    lines = [
        CallRow(
            href=f"/console/calls/{call.record}",
            at_ms=call.observed_at_ms,
            at=time_of(call.observed_at_ms, zone, name),
            is_receipt=not call.tells_time,
            night=night_of(call.observed_at_ms, zone).evening,
            node=call.node,
            species=call.species,
            common_name=known_as(call.species, call.common_name),
            confidence=call.confidence,
            has_sound=call.clip_record is not None,
        )
        for call in calls
    ]
    return CallRows(lines, name)


def of_recordings(recordings: Sequence[ListedRecording], zone: ZoneInfo) -> CallRows:
    """Return a row for each recording."""
    name = zone_name([recording.observed_at_ms for recording in recordings], zone)
    lines = [
        CallRow(
            href=f"/console/calls/{recording.record}",
            at_ms=recording.observed_at_ms,
            at=time_of(recording.observed_at_ms, zone, name),
            is_receipt=not recording.tells_time,
            night=night_of(recording.observed_at_ms, zone).evening,
            node=recording.node,
            seconds=recording.duration_ms / 1000,
        )
        for recording in recordings
    ]
    return CallRows(lines, name)


def zone_name(times: Sequence[int], zone: ZoneInfo) -> str | None:
    """Return the zone's name at all of these times, in ms since 1970; None if it differs."""
    names = {formatting.clock(at_ms, zone).partition(" ")[2] for at_ms in times}
    return names.pop() if len(names) == 1 else None


def time_of(at_ms: int, zone: ZoneInfo, name: str | None) -> str:
    """Write a time as a clock shows it; without the zone where `name` says it for all rows."""
    text = formatting.clock(at_ms, zone, seconds=True)
    return text.partition(" ")[0] if name is not None else text
