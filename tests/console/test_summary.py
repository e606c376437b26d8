"""The overview's summary, case by case: what it says, how urgently, and in which order."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from echo_ingest.sinks import Cause
from echo_ingest.web.console.overview.sink_table import WORDS, sink_rows
from echo_ingest.web.console.overview.summary import (
    UNAVAILABLE,
    URGENCIES,
    LastNight,
    SilenceNotice,
    SinkStatus,
    SystemState,
    clauses_of,
)

ZONE = ZoneInfo("Australia/Melbourne")
NOW = datetime(2026, 9, 14, 8, 0, tzinfo=ZONE)
WELL = SystemState(now=NOW, heard=15)


def at(clock: str, days_ago: int = 0) -> datetime:
    hour, minute = clock.split(":")
    return NOW.replace(hour=int(hour), minute=int(minute)) - timedelta(days=days_ago)


def sink(name: str, state: str, waiting: int = 0, lag_seconds: float = 0.0) -> SinkStatus:
    return SinkStatus(name=name, state=state, waiting=waiting, lag_seconds=lag_seconds, refused=0)


DELIVERING = sink("echo_api", "delivering")


def silences(*nodes: tuple[str, str]) -> tuple[SilenceNotice, ...]:
    return tuple(SilenceNotice(node, at(clock)) for node, clock in nodes)


def summarised(state: SystemState) -> list[tuple[str, str]]:
    clauses = clauses_of(state, ZONE)
    return [(clause.urgency, clause.text.replace("\u202f", ",")) for clause in clauses]


SILENT = silences(("ridge-07", "03:12"), ("creek-02", "02:40"), ("swamp-01", "01:05"))

NODES = {
    "no node yet": (SystemState(now=NOW), "look", "No node has sent a message yet."),
    "the only one": (
        SystemState(now=NOW, heard=1),
        *("fine", "The only node was heard in the last hour."),
    ),
    "the only one is silent": (
        SystemState(now=NOW, silent=1, latest_silences=SILENT[:1]),
        *("stuck", "The only node, ridge-07, has been silent since 03:12 AEST."),
    ),
    "the only one that ever sent anything": (
        SystemState(now=NOW, heard=1, never=2),
        "fine",
        "The only node that has ever sent a message was heard in the last hour. "
        "2 nodes with credentials never sent a message.",
    ),
    "the only one that ever sent anything, silent": (
        SystemState(now=NOW, silent=1, never=1, latest_silences=SILENT[:1]),
        "stuck",
        "The only node that has ever sent a message, ridge-07, has been silent since 03:12 AEST. "
        "1 node with credentials never sent a message.",
    ),
    "all but those that never sent anything": (
        SystemState(now=NOW, heard=15, never=1),
        "fine",
        "All 15 nodes that have ever sent a message were heard in the last hour. "
        "1 node with credentials never sent a message.",
    ),
    "all": (WELL, "fine", "All 15 nodes were heard in the last hour."),
    "thousands": (
        SystemState(now=NOW, heard=10_000),
        *("fine", "All 10,000 nodes were heard in the last hour."),
    ),
    "one silent": (
        SystemState(now=NOW, heard=14, silent=1, latest_silences=SILENT[:1]),
        "look",
        "14 of 15 nodes were heard in the last hour; ridge-07 has been silent since 03:12 AEST.",
    ),
    "silent since another day": (
        SystemState(
            now=NOW,
            heard=14,
            silent=1,
            latest_silences=(SilenceNotice("ridge-07", at("22:10", 1)),),
        ),
        "look",
        "14 of 15 nodes were heard in the last hour; "
        "ridge-07 has been silent since yesterday 22:10 AEST.",
    ),
    "two silent": (
        SystemState(now=NOW, heard=13, silent=2, latest_silences=SILENT[:2]),
        "look",
        "13 of 15 nodes were heard in the last hour; "
        "ridge-07 (since 03:12 AEST) and creek-02 (since 02:40 AEST) are silent.",
    ),
    "many silent": (
        SystemState(now=NOW, heard=1_000, silent=15, latest_silences=SILENT),
        "look",
        "1,000 of 1,015 nodes were heard in the last hour; ridge-07 (since 03:12 AEST), "
        "creek-02 (since 02:40 AEST), swamp-01 (since 01:05 AEST) and 12 more are silent.",
    ),
    "none of many": (
        SystemState(now=NOW, silent=15, latest_silences=SILENT),
        "stuck",
        "None of the 15 nodes was heard in the last hour; the last one was ridge-07, 03:12 AEST.",
    ),
}


@pytest.mark.parametrize(("state", "urgency", "text"), NODES.values(), ids=NODES)
def test_nodes(state: SystemState, urgency: str, text: str) -> None:
    assert summarised(state) == [(urgency, text)]


UNREACHABLE = Cause.UNREACHABLE
AWAY = replace(sink("echo_api", "unavailable", 1_204, 3.0), since=at("07:59"))

SINKS = {
    "well": (DELIVERING, "fine", "Echo API is up to date."),
    "a moment behind": (
        replace(DELIVERING, waiting=40, lag_seconds=2.0),
        *("fine", "Echo API is up to date."),
    ),
    "behind": (
        replace(DELIVERING, waiting=1_204, lag_seconds=120.0),
        *("look", "Echo API is 2 minutes behind; 1,204 records are waiting."),
    ),
    "unavailable": (
        replace(sink("postgres", "unavailable", 1, 3.0), since=at("07:59"), cause=UNREACHABLE),
        *("look", "PostgreSQL has been unreachable since 07:59 AEST; 1 record is waiting."),
    ),
    "unavailable for long": (
        replace(sink("postgres", "unavailable", 12, 9e4), since=at("05:12", 1), cause=UNREACHABLE),
        "stuck",
        "PostgreSQL has been unreachable since yesterday 05:12 AEST; 12 records are waiting.",
    ),
    "overloaded": (
        replace(AWAY, http_status=429, cause=Cause.OVERLOADED),
        "look",
        "Echo API has been overloaded (HTTP 429) since 07:59 AEST; 1,204 records are waiting.",
    ),
    "overloaded, without a status": (
        replace(AWAY, cause=Cause.OVERLOADED, since=None),
        *("look", "Echo API is overloaded; 1,204 records are waiting."),
    ),
    "rejecting our key": (
        replace(AWAY, http_status=401, cause=Cause.CREDENTIALS),
        "look",
        "Echo API has been rejecting our credentials (HTTP 401) since 07:59 AEST; "
        "1,204 records are waiting.",
    ),
    "answering with errors": (
        replace(AWAY, http_status=503, cause=Cause.ANSWERS_ERRORS),
        "look",
        "Echo API has been answering with errors (HTTP 503) since 07:59 AEST; "
        "1,204 records are waiting.",
    ),
    "a reason that looks like a status": (
        replace(AWAY, reason="it answered 503 yesterday"),
        *("look", "Echo API has been unavailable since 07:59 AEST; 1,204 records are waiting."),
    ),
    "paused": (
        replace(sink("mongodb", "paused", 7, 60.0), since=at("05:12")),
        *("look", "MongoDB has been paused since 05:12 AEST; 7 records are waiting."),
    ),
    "waits for another": (
        replace(
            sink("mongodb", "waiting", 7, 60.0),
            reason="waits until Audio storage has the clips: no",
        ),
        *("look", "MongoDB waits until Audio storage has the clips: no; 7 records are waiting."),
    ),
    "not configured, with records waiting": (
        sink("objects", "not configured", 5, 60.0),
        *("look", "Audio storage is not configured any more; 5 records are waiting."),
    ),
    "unknown": (
        sink("attic", "unavailable"),
        *("look", "attic is unavailable; 0 records are waiting."),
    ),
}


@pytest.mark.parametrize(("status", "urgency", "text"), SINKS.values(), ids=SINKS)
def test_sinks(status: SinkStatus, urgency: str, text: str) -> None:
    assert (urgency, text) in summarised(replace(WELL, sinks=(status,)))
    assert len(summarised(replace(WELL, sinks=(status,)))) == 2


@pytest.mark.parametrize(
    ("case", "badge"),
    [
        ("unavailable", ("bad", "unreachable")),
        ("overloaded", ("look", "overloaded")),
        ("answering with errors", ("bad", "answers with errors")),
        ("a reason that looks like a status", ("bad", "unavailable")),
    ],
)
def test_the_table_shows_how_a_sink_is_unavailable(case: str, badge: tuple[str, str]) -> None:
    (row,) = sink_rows([SINKS[case][0]], [], NOW, ZONE, 0)
    assert (row.badge, row.word) == badge


def test_every_cause_has_its_words() -> None:
    assert set(WORDS) == set(UNAVAILABLE) == {None, *Cause}


@pytest.mark.parametrize(
    ("state", "can_pause", "can_resume"),
    [
        *((state, True, False) for state in ("delivering", "waiting", "unavailable")),
        ("paused", False, True),
        ("not configured", False, False),
    ],
)
def test_a_sink_that_is_configured_can_be_paused_or_resumed(
    state: str, can_pause: bool, can_resume: bool
) -> None:
    (row,) = sink_rows([sink("mongodb", state)], [], NOW, ZONE, 0)
    assert (row.can_pause, row.can_resume) == (can_pause, can_resume)


def test_sinks_that_are_well_share_a_clause_and_a_former_one_without_backlog_has_none() -> None:
    former = sink("objects", "not configured")
    sinks = (DELIVERING, replace(DELIVERING, name="postgres"), former)
    assert summarised(replace(WELL, sinks=sinks))[1:] == [
        ("fine", "Echo API and PostgreSQL are up to date.")
    ]


def test_what_a_sink_has_refused_stands_beside_how_it_is() -> None:
    assert summarised(replace(WELL, sinks=(replace(DELIVERING, refused=1),)))[0] == (
        "look",
        "Echo API has refused 1 record.",
    )


REST = {
    "the ingest process is away": (
        replace(WELL, away_since=at("05:12")),
        "stuck",
        "No messages are accepted: the ingest process has not answered since 05:12 AEST. "
        "This page shows what was known then.",
    ),
    "no room": (
        replace(WELL, problems={"journal": "12 bytes are free; make room"}),
        *("stuck", "No messages can be stored: 12 bytes are free; make room."),
    ),
    "broker away": (
        replace(WELL, problems={"broker": "connection refused; does it run?"}),
        *("stuck", "No messages arrive from the broker: connection refused; does it run?"),
    ),
    "an endpoint is away": (
        replace(WELL, endpoints={"farm": "connection refused; does it run?"}),
        *("look", "The endpoint farm has a problem: connection refused; does it run?"),
    ),
    "stopping": (
        replace(WELL, problems={"service": "the service is stopping"}),
        *("stuck", "No messages are accepted: the service is stopping."),
    ),
    "messages do not pass": (
        replace(WELL, problems={"echo": "none has come back yet"}),
        *("stuck", "Messages do not pass through the broker: none has come back yet."),
    ),
    "does not add up": (
        replace(WELL, missing=1),
        "stuck",
        "The message ledger does not add up: 1 message is missing. "
        "Run echo-ingest verify to see where.",
    ),
    "too many": (
        replace(WELL, missing=-3),
        "stuck",
        "The message ledger does not add up: 3 messages are too many. "
        "Run echo-ingest verify to see where.",
    ),
    "lost": (
        replace(WELL, lost=12),
        "stuck",
        "12 messages were lost with a damaged file; journal.db.salvage.txt lists what is missing.",
    ),
    "room for days": (
        replace(WELL, disk_days=3.5),
        *("look", "The disk will be full in about 3 days 12 hours at this rate."),
    ),
    "room for hours": (
        replace(WELL, disk_days=0.25),
        *("stuck", "The disk will be full in about 6 hours at this rate."),
    ),
    "a few refused": (
        replace(WELL, refused_this_hour=1, refused_hour_before=0),
        *("look", "1 message was rejected in the last hour."),
    ),
    "as many as before": (
        replace(WELL, refused_this_hour=240, refused_hour_before=200),
        *("look", "240 messages were rejected in the last hour."),
    ),
    "many, and nobody knows how many before": (
        replace(WELL, refused_this_hour=240),
        *("look", "240 messages were rejected in the last hour."),
    ),
    "rising": (
        replace(WELL, refused_this_hour=1_240, refused_hour_before=12),
        "look",
        "Rejected messages are rising: there were 1,240 in the last hour and 12 in the hour "
        "before.",
    ),
    "a night": (
        replace(WELL, last_night=LastNight(214, 6, "Litoria ewingii")),
        *("fine", "214 calls of 6 species were heard last night, most often Litoria ewingii."),
    ),
    "a night of one": (
        replace(WELL, last_night=LastNight(1, 1, "Litoria ewingii")),
        *("fine", "1 call of Litoria ewingii was heard last night."),
    ),
}


@pytest.mark.parametrize(("state", "urgency", "text"), REST.values(), ids=REST)
def test_the_rest(state: SystemState, urgency: str, text: str) -> None:
    assert (urgency, text) in summarised(state)
    assert len(summarised(state)) == 2


def test_room_for_months_is_no_news() -> None:
    assert len(summarised(replace(WELL, disk_days=200.0))) == 1


def test_the_most_urgent_comes_first() -> None:
    everything = SystemState(
        now=NOW,
        heard=14,
        silent=1,
        latest_silences=SILENT[:1],
        missing=2,
        problems={"broker": "no answer"},
        disk_days=1.0,
        refused_this_hour=3,
        sinks=(DELIVERING, replace(sink("postgres", "unavailable", 9, 9.0), since=at("01:00"))),
        last_night=LastNight(214, 6, "Litoria ewingii"),
    )
    urgencies = [urgency for urgency, _ in summarised(everything)]
    assert urgencies == sorted(urgencies, key=URGENCIES.index)
    assert summarised(everything)[0][1].startswith("No messages arrive")
    assert summarised(everything)[-1][1].startswith("214 calls")


def test_every_clause_ends_as_a_sentence_does() -> None:
    cases = [*NODES.values(), *REST.values()]
    for state, _, _ in cases:
        for clause in clauses_of(state, ZoneInfo("UTC")):
            assert clause.text[-1] in ".?" and ".." not in clause.text
            assert "1 nodes" not in clause.text and "1 records" not in clause.text


def test_times_are_in_the_zone_of_the_viewer() -> None:
    state = replace(WELL, now=NOW.astimezone(UTC), silent=1, latest_silences=SILENT[:1])
    text = clauses_of(state, ZoneInfo("UTC"))[0].text
    assert text.endswith("ridge-07 has been silent since 17:12 UTC.")
