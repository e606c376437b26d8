"""The address of the page of calls: what it asks for, and what it says of what it does not take."""

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import pytest

from echo_ingest.web.console.calls.query import CallsQuery, address, read
from echo_ingest.web.console.common_names import known_as

MELBOURNE = ZoneInfo("Australia/Melbourne")

ASKED = [
    ("", CallsQuery()),
    ("species=&node=&confidence=&from=&to=", CallsQuery()),
    ("show=recordings&node=creek-02", CallsQuery(show="recordings", node="creek-02")),
    ("species=+Litoria+ewingii+", CallsQuery(species="Litoria ewingii")),
    ("confidence=70&before=12", CallsQuery(confidence_percent=70, before=12)),
    ("confidence=0", CallsQuery()),
    ("from=2026-09-14", CallsQuery(since=datetime(2026, 9, 13, 14, tzinfo=UTC))),
    ("to=2026-09-14", CallsQuery(until=datetime(2026, 9, 14, 14, tzinfo=UTC))),
    ("from=2026-09-14T18:00", CallsQuery(since=datetime(2026, 9, 14, 8, tzinfo=UTC))),
    ("from=2026-09-14T18:00&zone=UTC", CallsQuery(since=datetime(2026, 9, 14, 18, tzinfo=UTC))),
    ("from=2026-09-14T18:00%2B02:00", CallsQuery(since=datetime(2026, 9, 14, 16, tzinfo=UTC))),
]

WRONG = [
    ("confidence=0.7", "confidence", "write 0, 10, 20"),
    ("confidence=75", "confidence", "in steps of ten"),
    ("confidence=\u0667\u0660", "confidence", "in steps of ten"),
    ("from=yesterday", "from", "write a day such as 2026-09-14, or a time such as"),
    ("from=0001-01-01", "from", "is no time"),
    ("to=9999-12-31", "to", "is no time"),
    ("from=2026-09-15&to=2026-09-14T05:00", "to", "is not after from; swap the two"),
    ("zone=Middle+Earth", "zone", "such as Australia/Melbourne"),
    ("zone=../../etc/passwd", "zone", "is no time zone"),
    ("show=dreams", "show", "is calls or recordings"),
    ("before=-1", "before", "follow the link"),
    ("before=99999999999999999", "before", "follow the link"),
    ("node=a&node=b", "node", "is given twice"),
    ("speces=frog", "speces", "there are show, species, node"),
    ("species=" + "x" * 201, "species", "longer than the 200 characters"),
]


@pytest.mark.parametrize(("query", "asked"), ASKED)
def test_what_an_address_asks_for_and_that_it_comes_back(query: str, asked: CallsQuery) -> None:
    found, _, wrong = read(parse_qsl(query, keep_blank_values=True), MELBOURNE)
    assert (found, wrong) == (asked, {})
    for zone in (MELBOURNE, ZoneInfo("America/St_Johns")):
        again = parse_qsl(urlsplit(address(asked, zone)).query)
        assert read(again, ZoneInfo("UTC"))[0] == asked


@pytest.mark.parametrize(("query", "name", "words"), WRONG)
def test_what_cannot_be_asked_is_said_with_what_to_write(query: str, name: str, words: str) -> None:
    asked, _, wrong = read(parse_qsl(query), MELBOURNE)
    assert asked == CallsQuery()
    assert list(wrong) == [name]
    assert words in wrong[name]


def test_animals_have_the_name_that_people_use() -> None:
    assert known_as("Litoria ewingii") == "Brown tree frog"
    assert known_as("Sus Scrofa") == "Wild boar"
    assert known_as("Litoria ewingii", "Southern brown tree frog") == "Southern brown tree frog"
    assert known_as("Draco dormiens") is None
