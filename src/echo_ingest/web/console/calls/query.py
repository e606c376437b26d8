"""The query of the page of calls: read from its address and its form, and written back. Pure.

Times in an address are those of the zone that it names, so that a link means the same to everyone
who opens it, wherever they are.
"""

import re
import shlex
import zoneinfo
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from echo_ingest.record import RecordId

Show = Literal["calls", "recordings"]

NAMES = ("show", "species", "node", "confidence", "from", "to", "zone", "before")
PAGE = "/console/calls"
TEXT_MAX = 200
WHEN = "write a day such as 2026-09-14 or a time such as 2026-09-14T05:45"
PERCENTS = range(0, 101, 10)
YEARS = range(1970, 2200)
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class CallsQuery(Struct, frozen=True, kw_only=True):
    """Which calls to show: every field narrows them down."""

    show: Show = "calls"
    """Calls have a species; in recordings nothing has been identified."""
    species: str | None = None
    node: str | None = None
    confidence_percent: int | None = None
    """The least confidence, one of `PERCENTS`; calls without one are left out."""
    since: datetime | None = None
    until: datetime | None = None
    """Before this moment."""
    before: RecordId | None = None
    """The record after which the list goes on."""

    @property
    def is_narrowed(self) -> bool:
        """Return whether anything is left out; a further page of the list leaves nothing out."""
        return replace(self, before=None) != CallsQuery(show=self.show)


def read(
    parameters: Iterable[tuple[str, str]], zone: ZoneInfo
) -> tuple[CallsQuery, Mapping[str, str], Mapping[str, str]]:
    """Return the query, what was typed, and what is wrong with it, in words, by parameter.

    Where anything is wrong, the query is empty. `zone` is the viewer's, for an address without one.
    """
    given = [(name, text.strip()) for name, text in parameters]
    typed = {name: text for name, text in given if text and name in NAMES}
    wrong = {
        name[:TEXT_MAX]: f"is not a filter; the filters are {', '.join(NAMES)}"
        for name, _ in given
        if name not in NAMES
    }
    twice = [name for name, count in Counter(name for name, _ in given).items() if count > 1]
    wrong |= {name: "is given twice; give it once" for name in twice if name in NAMES}
    if "zone" in typed:
        try:
            zone = ZoneInfo(typed["zone"])
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            wrong["zone"] = "is not a time zone; write one such as Australia/Melbourne"
    since, until = _moment("from", typed, wrong, zone), _moment("to", typed, wrong, zone)
    query = CallsQuery(
        show=_show(typed, wrong),
        species=_text("species", typed, wrong),
        node=_text("node", typed, wrong),
        confidence_percent=_percent(typed, wrong),
        since=since,
        until=until,
        before=_before(typed, wrong),
    )
    if since is not None and until is not None and since >= until:
        wrong["to"] = "is not after from; swap the two"
    return CallsQuery() if wrong else query, typed, wrong


def parameters(query: CallsQuery, zone: ZoneInfo) -> dict[str, str]:
    """Return the query as an address has it, with times of `zone`; `read` reads it back."""
    texts = {
        "show": query.show if query.show != "calls" else "",
        "species": query.species or "",
        "node": query.node or "",
        "confidence": str(query.confidence_percent or ""),
        "from": local(query.since, zone),
        "to": local(query.until, zone),
        "before": str(query.before or ""),
    }
    if query.since or query.until:
        texts["zone"] = zone.key
    return {name: text for name, text in texts.items() if text}


def address(query: CallsQuery, zone: ZoneInfo) -> str:
    """Return the address of the page that shows these calls."""
    texts = parameters(query, zone)
    return f"{PAGE}?{urlencode(texts)}" if texts else PAGE


def local(when: datetime | None, zone: ZoneInfo) -> str:
    """Write a time as a form's field for a date and a time has it: local, without its zone."""
    if when is None:
        return ""
    shown = when.astimezone(zone).replace(tzinfo=None)
    return shown.isoformat(timespec="seconds" if shown.second else "minutes")


def export_command(query: CallsQuery) -> str:
    """Return the command that exports the same calls as a table."""
    kind = "recording" if query.show == "recordings" else "detection"
    parts = ["echo-ingest", "export", query.show, "--kind", kind]
    if query.node:
        parts += ["--node", query.node]
    if query.species and query.show == "calls":
        parts += ["--species", query.species]
    for option, when in (("--since", query.since), ("--until", query.until)):
        if when is not None:
            parts += [option, when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")]
    if query.show == "recordings":
        parts.append("--audio")
    return shlex.join(parts)


def _show(typed: Mapping[str, str], wrong: dict[str, str]) -> Show:
    match typed.get("show", "calls"):
        case "calls":
            return "calls"
        case "recordings":
            return "recordings"
    wrong["show"] = "must be calls or recordings"
    return "calls"


def _text(name: str, typed: Mapping[str, str], wrong: dict[str, str]) -> str | None:
    text = typed.get(name)
    if text is not None and len(text) > TEXT_MAX:
        wrong[name] = f"is longer than {TEXT_MAX} characters, the most that a name may have"
    return text


def _percent(typed: Mapping[str, str], wrong: dict[str, str]) -> int | None:
    text = typed.get("confidence")
    if text is None:
        return None
    percent = int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else -1
    if percent not in PERCENTS:
        wrong["confidence"] = "must be a percentage in steps of ten: 0, 10, 20 … or 100"
    return percent or None


def _moment(
    name: str, typed: Mapping[str, str], wrong: dict[str, str], zone: ZoneInfo
) -> datetime | None:
    """Read a time of `zone`, unless it names its own; a day alone means the whole day."""
    text = typed.get(name)
    if text is None:
        return None
    when: datetime | None
    try:
        if DAY.fullmatch(text):
            day = date.fromisoformat(text) + timedelta(days=name == "to")
            when = datetime.combine(day, time(), zone)
        else:
            when = datetime.fromisoformat(text)
            when = when.replace(tzinfo=zone) if when.tzinfo is None else when
        when = when.astimezone(UTC)
    except (ValueError, OverflowError):
        when = None
    if when is None or when.year not in YEARS:
        wrong[name] = f"is not a time; {WHEN}"
        return None
    return when


def _before(typed: Mapping[str, str], wrong: dict[str, str]) -> RecordId | None:
    text = typed.get("before")
    if text is None:
        return None
    record = RecordId.parse(text)
    if record is None:
        wrong["before"] = (
            "is not a place in the list; follow the link at the end of the list instead"
        )
    return record
