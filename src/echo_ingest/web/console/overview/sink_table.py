"""The stores in their table: how each is, and what waited over the last day. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from echo_ingest.almanac import Sample
from echo_ingest.web.console.overview import facts
from echo_ingest.web.console.overview.sparkline import Sparkline, curve
from echo_ingest.web.console.overview.summary import (
    BEHIND_SECONDS,
    TOO_OFTEN,
    SinkStatus,
    answered,
    store_name,
)

Badge = Literal["good", "look", "bad", "off", "unknown"]


class SinkRow(Struct, frozen=True):
    """A line of the table."""

    name: str
    title: str
    badge: Badge
    word: str
    since: datetime | None
    reason: str | None
    waiting: int
    lag_seconds: float
    refused: int
    curve: Sparkline

    @property
    def can_pause(self) -> bool:
        """It runs, and is not paused yet."""
        return self.word not in ("paused", "not set up any more", "not known")


def store_rows(
    stores: Sequence[SinkStatus],
    samples: Sequence[Sample],
    now: datetime,
    zone: ZoneInfo,
    first: int,
) -> list[SinkRow]:
    """A line for each store; curves begin with step `first` of the last day."""
    return [
        SinkRow(
            store.name,
            store_title(store.name),
            *_state(store),
            store.since,
            store.reason,
            store.waiting,
            store.lag_seconds,
            store.refused,
            curve(
                facts.waiting(samples, now, store.name)[first:],
                facts.step_at(now, first),
                facts.STEP,
                zone,
            ),
        )
        for store in stores
    ]


def store_title(sink: str) -> str:
    """Without its article, at the beginning of a line."""
    name = store_name(sink).removeprefix("the ")
    return name[:1].upper() + name[1:]


def _state(store: SinkStatus) -> tuple[Badge, str]:
    match store.state:
        case "delivering" if store.waiting and store.lag_seconds >= BEHIND_SECONDS:
            return "look", "behind"
        case "delivering":
            return "good", "up to date"
        case "unavailable":
            status = answered(store)
            if status == TOO_OFTEN:
                return "look", "asked too often"
            return "bad", "cannot be reached" if status is None else "takes nothing"
        case "paused":
            return "off", "paused"
        case "waiting":
            return "look", "held up"
        case "not configured":
            return "off", "not set up any more"
    return "unknown", "not known"
