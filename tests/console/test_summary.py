"""The sentence of the overview, case by case: what it says, how urgently, and in which order."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from echo_ingest.sinks.echo_api.replies import Reply
from echo_ingest.web.console.overview.sink_table import store_rows
from echo_ingest.web.console.overview.summary import (
    URGENCIES,
    LastNight,
    SilenceNotice,
    SinkStatus,
    SystemState,
    sentence,
)

ZONE = ZoneInfo("Australia/Melbourne")
NOW = datetime(2026, 9, 14, 8, 0, tzinfo=ZONE)
WELL = SystemState(now=NOW, heard=15)
DELIVERING = SinkStatus("echo_api", "delivering", waiting=0, lag_seconds=0.0, refused=0)


def at(clock: str, days_ago: int = 0) -> datetime:
    hour, minute = clock.split(":")
    return NOW.replace(hour=int(hour), minute=int(minute)) - timedelta(days=days_ago)


def silences(*nodes: tuple[str, str]) -> tuple[SilenceNotice, ...]:
    return tuple(SilenceNotice(node, at(clock)) for node, clock in nodes)


def said(standing: SystemState) -> list[tuple[str, str]]:
    clauses = sentence(standing, ZONE)
    return [(clause.urgency, clause.text.replace("\u202f", ",")) for clause in clauses]


SILENT = silences(("ridge-07", "03:12"), ("creek-02", "02:40"), ("swamp-01", "01:05"))

NODES = {
    "nobody ever": (SystemState(now=NOW), "look", "No node has published yet."),
    "the only one": (
        SystemState(now=NOW, heard=1),
        *("fine", "The only node was heard in the last hour."),
    ),
    "the only one is silent": (
        SystemState(now=NOW, silent=1, latest_silences=SILENT[:1]),
        *("stuck", "The only node, ridge-07, is silent since 03:12 AEST."),
    ),
    "all": (WELL, "fine", "All 15 nodes heard in the last hour."),
    "thousands": (
        SystemState(now=NOW, heard=10_000),
        *("fine", "All 10,000 nodes heard in the last hour."),
    ),
    "one silent": (
        SystemState(now=NOW, heard=14, silent=1, latest_silences=SILENT[:1]),
        "look",
        "14 of 15 nodes heard in the last hour; ridge-07 silent since 03:12 AEST.",
    ),
    "silent since another day": (
        SystemState(
            now=NOW,
            heard=14,
            silent=1,
            latest_silences=(SilenceNotice("ridge-07", at("22:10", 1)),),
        ),
        "look",
        "14 of 15 nodes heard in the last hour; ridge-07 silent since yesterday 22:10 AEST.",
    ),
    "two silent": (
        SystemState(now=NOW, heard=13, silent=2, latest_silences=SILENT[:2]),
        "look",
        "13 of 15 nodes heard in the last hour; "
        "silent: ridge-07 since 03:12 AEST and creek-02 since 02:40 AEST.",
    ),
    "many silent": (
        SystemState(now=NOW, heard=1_000, silent=15, latest_silences=SILENT),
        "look",
        "1,000 of 1,015 nodes heard in the last hour; silent: ridge-07 since 03:12 AEST, "
        "creek-02 since 02:40 AEST, swamp-01 since 01:05 AEST and 12 more.",
    ),
    "none of many": (
        SystemState(now=NOW, silent=15, latest_silences=SILENT),
        "stuck",
        "None of 15 nodes heard in the last hour; the last was ridge-07, 03:12 AEST.",
    ),
}


@pytest.mark.parametrize(("standing", "urgency", "text"), NODES.values(), ids=NODES)
def test_nodes(standing: SystemState, urgency: str, text: str) -> None:
    assert said(standing) == [(urgency, text)]


def answering(status: int, body: bytes) -> SinkStatus:
    """The Echo API takes nothing, in the words of whoever asked it."""
    reason = Reply(status, body).text()
    return SinkStatus("echo_api", "unavailable", 1_204, 3.0, 0, since=at("07:59"), reason=reason)


STORES = {
    "well": (DELIVERING, "fine", "The Echo API has everything."),
    "a moment behind": (
        replace(DELIVERING, waiting=40, lag_seconds=2.0),
        *("fine", "The Echo API has everything."),
    ),
    "behind": (
        replace(DELIVERING, waiting=1_204, lag_seconds=120.0),
        *("look", "The Echo API is 2 minutes behind; 1,204 records waiting."),
    ),
    "unavailable": (
        SinkStatus("postgres", "unavailable", 1, 3.0, 0, since=at("07:59")),
        *("look", "PostgreSQL cannot be reached since 07:59 AEST; 1 record waiting."),
    ),
    "unavailable for long": (
        SinkStatus("postgres", "unavailable", 12, 9e4, 0, since=at("05:12", 1)),
        "stuck",
        "PostgreSQL cannot be reached since yesterday 05:12 AEST; 12 records waiting.",
    ),
    "asked too often": (
        answering(429, b'{"error": "Rate limit exceeded: 120 per 1 minute"}'),
        "look",
        "The Echo API answers that it is asked too often (429) since 07:59 AEST; "
        "1,204 records waiting.",
    ),
    "answering, and taking nothing": (
        answering(503, b""),
        "look",
        "The Echo API answers, but takes nothing (503) since 07:59 AEST; 1,204 records waiting.",
    ),
    "paused": (
        SinkStatus("mongodb", "paused", 7, 60.0, 0, since=at("05:12")),
        *("look", "MongoDB is paused since 05:12 AEST; 7 records waiting."),
    ),
    "waits for another": (
        SinkStatus(
            "mongodb", "waiting", 7, 60.0, 0, reason="waits until objects has the clips: no"
        ),
        *("look", "MongoDB waits until objects has the clips: no; 7 records waiting."),
    ),
    "of before, still wanting": (
        SinkStatus("objects", "not configured", 5, 60.0, 0),
        *("look", "The store of audio is not configured any more; 5 records waiting."),
    ),
    "unheard of": (
        SinkStatus("attic", "unavailable", 0, 0.0, 0),
        *("look", "Attic cannot be reached; 0 records waiting."),
    ),
}


@pytest.mark.parametrize(("store", "urgency", "text"), STORES.values(), ids=STORES)
def test_stores(store: SinkStatus, urgency: str, text: str) -> None:
    assert (urgency, text) in said(replace(WELL, stores=(store,)))
    assert len(said(replace(WELL, stores=(store,)))) == 2


@pytest.mark.parametrize(
    ("store", "word"),
    [
        (STORES["unavailable"][0], ("bad", "cannot be reached")),
        (STORES["asked too often"][0], ("look", "asked too often")),
        (STORES["answering, and taking nothing"][0], ("bad", "takes nothing")),
    ],
)
def test_the_table_says_of_a_store_that_answers_that_it_does(
    store: SinkStatus, word: tuple[str, str]
) -> None:
    (row,) = store_rows([store], [], NOW, ZONE, 0)
    assert (row.badge, row.word) == word


def test_stores_that_are_well_are_told_together_and_one_of_before_that_wants_nothing_not() -> None:
    gone = SinkStatus("objects", "not configured", 0, 0.0, 0)
    stores = (DELIVERING, replace(DELIVERING, name="postgres"), gone)
    assert said(replace(WELL, stores=stores))[1:] == [
        ("fine", "The Echo API and PostgreSQL have everything.")
    ]


def test_what_a_store_has_refused_is_told_beside_how_it_is() -> None:
    assert said(replace(WELL, stores=(replace(DELIVERING, refused=1),)))[0] == (
        "look",
        "The Echo API has refused 1 record.",
    )


REST = {
    "the line is away": (
        replace(WELL, away_since=at("05:12")),
        "stuck",
        "Nothing is taken in: the ingestion has not answered since 05:12 AEST; "
        "what stands here is what was known then.",
    ),
    "no room": (
        replace(WELL, problems={"journal": "12 bytes are free; make room"}),
        *("stuck", "No message can be stored: 12 bytes are free; make room."),
    ),
    "broker away": (
        replace(WELL, problems={"broker": "connection refused; does it run?"}),
        *("stuck", "No message can come in: connection refused; does it run?"),
    ),
    "stopping": (
        replace(WELL, problems={"service": "stopping"}),
        *("stuck", "No message is taken in: the service is stopping."),
    ),
    "messages do not pass": (
        replace(WELL, problems={"echo": "none has come back yet"}),
        *("stuck", "No message passes through the broker: none has come back yet."),
    ),
    "does not close": (
        replace(WELL, missing=1),
        "stuck",
        "The ledger does not close: 1 message missing; type echo-ingest verify to see where.",
    ),
    "too many": (
        replace(WELL, missing=-3),
        "stuck",
        "The ledger does not close: 3 messages too many; type echo-ingest verify to see where.",
    ),
    "lost": (
        replace(WELL, lost=12),
        *("stuck", "12 messages lost to a damaged file; journal.db.salvage.txt says which."),
    ),
    "room for days": (
        replace(WELL, disk_days=3.5),
        *("look", "Room on the disk for 3 days 12 hours more at this pace."),
    ),
    "room for hours": (
        replace(WELL, disk_days=0.25),
        *("stuck", "Room on the disk for 6 hours more at this pace."),
    ),
    "a few refused": (
        replace(WELL, refused_this_hour=1, refused_hour_before=0),
        *("look", "1 message refused in the last hour."),
    ),
    "as many as before": (
        replace(WELL, refused_this_hour=240, refused_hour_before=200),
        *("look", "240 messages refused in the last hour."),
    ),
    "many, and nobody knows how many before": (
        replace(WELL, refused_this_hour=240),
        *("look", "240 messages refused in the last hour."),
    ),
    "rising": (
        replace(WELL, refused_this_hour=1_240, refused_hour_before=12),
        *("look", "Refused messages rise: 1,240 in the last hour, 12 in the one before."),
    ),
    "a night": (
        replace(WELL, last_night=LastNight(214, 6, "Litoria ewingii")),
        *("fine", "214 calls of 6 species last night, most often Litoria ewingii."),
    ),
    "a night of one": (
        replace(WELL, last_night=LastNight(1, 1, "Litoria ewingii")),
        *("fine", "1 call of Litoria ewingii last night."),
    ),
}


@pytest.mark.parametrize(("standing", "urgency", "text"), REST.values(), ids=REST)
def test_the_rest(standing: SystemState, urgency: str, text: str) -> None:
    assert (urgency, text) in said(standing)
    assert len(said(standing)) == 2


def test_room_for_months_is_no_news() -> None:
    assert len(said(replace(WELL, disk_days=200.0))) == 1


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
        stores=(DELIVERING, SinkStatus("postgres", "unavailable", 9, 9.0, 0, since=at("01:00"))),
        last_night=LastNight(214, 6, "Litoria ewingii"),
    )
    urgencies = [urgency for urgency, _ in said(everything)]
    assert urgencies == sorted(urgencies, key=URGENCIES.index)
    assert said(everything)[0][1].startswith("No message can come in")
    assert said(everything)[-1][1].startswith("214 calls")


def test_every_clause_ends_as_a_sentence_does() -> None:
    standings = [*NODES.values(), *REST.values()]
    for standing, _, _ in standings:
        for clause in sentence(standing, ZoneInfo("UTC")):
            assert clause.text[-1] in ".?" and ".." not in clause.text
            assert "1 nodes" not in clause.text and "1 records" not in clause.text


def test_times_are_those_of_whoever_looks() -> None:
    standing = replace(WELL, now=NOW.astimezone(UTC), silent=1, latest_silences=SILENT[:1])
    text = sentence(standing, ZoneInfo("UTC"))[0].text
    assert text.endswith("ridge-07 silent since 17:12 UTC.")
