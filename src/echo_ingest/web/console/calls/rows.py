"""The list of calls, or of recordings: what a line of it says, and how it is taken along. Pure."""

import shlex
from collections.abc import Sequence
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.almanac import ListedCall, ListedRecording
from echo_ingest.web.console import formatting
from echo_ingest.web.console.calls.query import CallsQuery
from echo_ingest.web.console.common_names import known_as


class CallRow(Struct, frozen=True):
    """A call, or a recording without a species."""

    href: str
    at_ms: int
    """Observed; milliseconds since 1970, UTC."""
    at: str
    """The same as a clock shows it: `03:12:45`, with its zone where the table has more than one."""
    night: date
    node: str
    """Empty where the topic names none."""
    species: str = ""
    common_name: str | None = None
    confidence: float | None = None
    """Fraction, 0 to 1."""
    has_sound: bool = False
    seconds: float = 0.0
    """Of a recording: how long it is."""


class CallRows(Struct, frozen=True):
    """A page of the list."""

    lines: Sequence[CallRow]
    zone_name: str | None
    """The zone of all of them; None where the clocks were changed in between."""


def of_calls(calls: Sequence[ListedCall], zone: ZoneInfo) -> CallRows:
    """A line for each call."""
    name = zone_name([call.observed_at_ms for call in calls], zone)
    lines = [
        CallRow(
            f"/console/calls/{call.offset}",
            call.observed_at_ms,
            time_of(call.observed_at_ms, zone, name),
            formatting.night_of(call.observed_at_ms, zone),
            call.node,
            call.species,
            known_as(call.species, call.common_name),
            call.confidence,
            call.clip_offset is not None,
        )
        for call in calls
    ]
    return CallRows(lines, name)


def of_recordings(recordings: Sequence[ListedRecording], zone: ZoneInfo) -> CallRows:
    """A line for each recording."""
    name = zone_name([each.observed_at_ms for each in recordings], zone)
    lines = [
        CallRow(
            f"/console/calls/{each.offset}",
            each.observed_at_ms,
            time_of(each.observed_at_ms, zone, name),
            formatting.night_of(each.observed_at_ms, zone),
            each.node,
            seconds=each.duration_ms / 1000,
        )
        for each in recordings
    ]
    return CallRows(lines, name)


def zone_name(times: Sequence[int], zone: ZoneInfo) -> str | None:
    """What the zone is called at all of these times, in ms since 1970; None if that differs."""
    names = {formatting.clock(at_ms, zone).partition(" ")[2] for at_ms in times}
    return names.pop() if len(names) == 1 else None


def time_of(at_ms: int, zone: ZoneInfo, name: str | None) -> str:
    """As a clock shows it, without the zone where that is said once for all."""
    text = formatting.clock(at_ms, zone, seconds=True)
    return text.partition(" ")[0] if name is not None else text


def export_command(asked: CallsQuery) -> str:
    """What to type to have the same as a table."""
    kind = "recording" if asked.show == "recordings" else "detection"
    parts = ["echo-ingest", "export", asked.show, "--kind", kind]
    if asked.node:
        parts += ["--node", asked.node]
    if asked.species and asked.show == "calls":
        parts += ["--species", asked.species]
    for option, when in (("--since", asked.since), ("--until", asked.until)):
        if when is not None:
            parts += [option, _utc(when)]
    if asked.show == "recordings":
        parts.append("--audio")
    return shlex.join(parts)


def _utc(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
