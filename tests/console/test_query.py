"""The query of the page of calls: what an address asks for, and what is said of a wrong one."""

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import pytest

from echo_ingest.record import RecordId
from echo_ingest.web.console.calls.query import CallsQuery, address, read
from echo_ingest.web.console.common_names import known_as

MELBOURNE = ZoneInfo("Australia/Melbourne")

QUERIES = [
    ("", CallsQuery()),
    ("species=&node=&confidence=&from=&to=", CallsQuery()),
    ("show=recordings&node=creek-02", CallsQuery(show="recordings", node="creek-02")),
    ("species=+Litoria+ewingii+", CallsQuery(species="Litoria ewingii")),
    ("confidence=70&before=12", CallsQuery(confidence_percent=70, before=RecordId(12))),
    ("confidence=0", CallsQuery()),
    ("from=2026-09-14", CallsQuery(since=datetime(2026, 9, 13, 14, tzinfo=UTC))),
    ("to=2026-09-14", CallsQuery(until=datetime(2026, 9, 14, 14, tzinfo=UTC))),
    ("from=2026-09-14T18:00", CallsQuery(since=datetime(2026, 9, 14, 8, tzinfo=UTC))),
    ("from=2026-09-14T18:00&zone=UTC", CallsQuery(since=datetime(2026, 9, 14, 18, tzinfo=UTC))),
    ("from=2026-09-14T18:00%2B02:00", CallsQuery(since=datetime(2026, 9, 14, 16, tzinfo=UTC))),
]

WRONG = [
    ("confidence=0.7", "confidence", "steps of ten: 0, 10, 20"),
    ("confidence=75", "confidence", "in steps of ten"),
    ("confidence=\u0667\u0660", "confidence", "in steps of ten"),
    ("from=yesterday", "from", "write a day such as 2026-09-14 or a time such as"),
    ("from=0001-01-01", "from", "is not a time"),
    ("to=9999-12-31", "to", "is not a time"),
    ("from=2026-09-15&to=2026-09-14T05:00", "to", "is not after from; swap the two"),
    ("zone=Middle+Earth", "zone", "such as Australia/Melbourne"),
    ("zone=../../etc/passwd", "zone", "is not a time zone"),
    ("show=dreams", "show", "must be calls or recordings"),
    ("before=-1", "before", "follow the link"),
    ("before=99999999999999999", "before", "follow the link"),
    ("node=a&node=b", "node", "is given twice"),
    ("speces=frog", "speces", "the filters are show, species, node"),
    ("species=" + "x" * 201, "species", "longer than 200 characters"),
]


@pytest.mark.parametrize(("text", "query"), QUERIES)
def test_an_address_is_read_and_written_back(text: str, query: CallsQuery) -> None:
    parsed, _, wrong = read(parse_qsl(text, keep_blank_values=True), MELBOURNE)
    assert (parsed, wrong) == (query, {})
    for zone in (MELBOURNE, ZoneInfo("America/St_Johns")):
        again = parse_qsl(urlsplit(address(query, zone)).query)
        assert read(again, ZoneInfo("UTC"))[0] == query


@pytest.mark.parametrize(("text", "name", "words"), WRONG)
def test_a_wrong_filter_is_explained_with_what_to_write(text: str, name: str, words: str) -> None:
    query, _, wrong = read(parse_qsl(text), MELBOURNE)
    assert query == CallsQuery()
    assert list(wrong) == [name]
    assert words in wrong[name]


def test_species_have_the_name_that_people_use() -> None:
    assert known_as("Litoria ewingii") == "Brown tree frog"
    assert known_as("Sus Scrofa") == "Wild boar"
    assert known_as("Litoria ewingii", "Southern brown tree frog") == "Southern brown tree frog"
    assert known_as("Draco dormiens") is None
