"""The address of the page of calls: what it asks for, in words where it is wrong, and back again.

Times of an address are those of the zone named in it, so that a link means the same to whoever
opens it, wherever they are.
"""

import re
import zoneinfo
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

Show = Literal["calls", "recordings"]

NAMES = ("show", "species", "node", "confidence", "from", "to", "zone", "before")
PAGE = "/console/calls"
TEXT_MAX = 200
WHEN = "write a day such as 2026-09-14, or a time such as 2026-09-14T05:45"
OFFSET = re.compile(r"[1-9]\d{0,15}", re.ASCII)
PERCENTS = range(0, 101, 10)
YEARS = range(1970, 2200)
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class CallsQuery(Struct, frozen=True, kw_only=True):
    """Which calls: every field narrows it down."""

    show: Show = "calls"
    """Calls have a name; recordings wait for one."""
    species: str | None = None
    node: str | None = None
    confidence_percent: int | None = None
    """At least, one of `PERCENTS`; calls without any are left out."""
    since: datetime | None = None
    until: datetime | None = None
    """Before this moment."""
    before: int | None = None
    """The record after which the list goes on."""

    @property
    def is_narrowed(self) -> bool:
        """Is anything left out? A further page of the list leaves nothing out."""
        return replace(self, before=None) != CallsQuery(show=self.show)


def read(
    parameters: Iterable[tuple[str, str]], zone: ZoneInfo
) -> tuple[CallsQuery, Mapping[str, str], Mapping[str, str]]:
    """What is asked, what was typed, and what is wrong with it, in words, by parameter.

    Where anything is wrong, nothing is asked. `zone` is the viewer's, for an address without one.
    """
    given = [(name, text.strip()) for name, text in parameters]
    typed = {name: text for name, text in given if text and name in NAMES}
    wrong = {
        name[:TEXT_MAX]: f"there is no such choice; there are {', '.join(NAMES)}"
        for name, _ in given
        if name not in NAMES
    }
    twice = [name for name, count in Counter(name for name, _ in given).items() if count > 1]
    wrong |= {name: "is given twice; once is enough" for name in twice if name in NAMES}
    if "zone" in typed:
        try:
            zone = ZoneInfo(typed["zone"])
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            wrong["zone"] = "is no time zone; write one such as Australia/Melbourne"
    fields = {
        "show": _show(typed, wrong),
        "species": _text("species", typed, wrong),
        "node": _text("node", typed, wrong),
        "confidence_percent": _percent(typed, wrong),
        "since": _moment("from", typed, wrong, zone),
        "until": _moment("to", typed, wrong, zone),
        "before": _offset(typed, wrong),
    }
    since, until = fields["since"], fields["until"]
    if isinstance(since, datetime) and isinstance(until, datetime) and since >= until:
        wrong["to"] = "is not after from; swap the two"
    if wrong:
        return CallsQuery(), typed, wrong
    return CallsQuery(**fields), typed, wrong  # type: ignore[arg-type]


def parameters(asked: CallsQuery, zone: ZoneInfo) -> dict[str, str]:
    """The same as an address has it, with times of `zone`; `read` gives back what was asked."""
    said = {
        "show": asked.show if asked.show != "calls" else "",
        "species": asked.species or "",
        "node": asked.node or "",
        "confidence": str(asked.confidence_percent or ""),
        "from": local(asked.since, zone),
        "to": local(asked.until, zone),
        "before": str(asked.before or ""),
    }
    if asked.since or asked.until:
        said["zone"] = zone.key
    return {name: text for name, text in said.items() if text}


def address(asked: CallsQuery, zone: ZoneInfo) -> str:
    """The page that shows it."""
    said = parameters(asked, zone)
    return f"{PAGE}?{urlencode(said)}" if said else PAGE


def local(when: datetime | None, zone: ZoneInfo) -> str:
    """As a field for a date and a time has it: local, and without its zone."""
    if when is None:
        return ""
    shown = when.astimezone(zone).replace(tzinfo=None)
    return shown.isoformat(timespec="seconds" if shown.second else "minutes")


def _show(typed: Mapping[str, str], wrong: dict[str, str]) -> Show:
    match typed.get("show", "calls"):
        case "calls":
            return "calls"
        case "recordings":
            return "recordings"
    wrong["show"] = "is calls or recordings"
    return "calls"


def _text(name: str, typed: Mapping[str, str], wrong: dict[str, str]) -> str | None:
    text = typed.get(name)
    if text is not None and len(text) > TEXT_MAX:
        wrong[name] = f"is longer than the {TEXT_MAX} characters that a name may have"
    return text


def _percent(typed: Mapping[str, str], wrong: dict[str, str]) -> int | None:
    text = typed.get("confidence")
    if text is None:
        return None
    percent = int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else -1
    if percent not in PERCENTS:
        wrong["confidence"] = "is in percent, in steps of ten; write 0, 10, 20 … or 100"
    return percent or None


def _moment(
    name: str, typed: Mapping[str, str], wrong: dict[str, str], zone: ZoneInfo
) -> datetime | None:
    """A moment of `zone`, unless it names its own; a day alone is all of it."""
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
        wrong[name] = f"is no time; {WHEN}"
        return None
    return when


def _offset(typed: Mapping[str, str], wrong: dict[str, str]) -> int | None:
    text = typed.get("before")
    if text is None:
        return None
    if OFFSET.fullmatch(text) is None:
        wrong["before"] = "is no place in the list; follow the link at its end instead"
        return None
    return int(text)
