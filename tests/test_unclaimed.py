"""What comes on topics that nothing has claimed: counted, kept for a while, and taken in by people.

Here with the journal alone; tests/test_letting_in.py has the whole service.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from echo_ingest.broker.taken_topics import TakenTopicsUnusable, read_taken_topics, take_in
from echo_ingest.broker.topic_rights import TopicRights
from echo_ingest.decode import Decoder
from echo_ingest.decode.forms import Forms
from echo_ingest.decode.rules import Rules
from echo_ingest.journal import Journal, unclaimed_topics
from echo_ingest.journal.reader import JournalReader
from echo_ingest.pipeline.claims import Claims, follow_claims
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    DeadLetter,
    Duplicate,
    Identity,
    Ignored,
    Message,
    Rejected,
    Stored,
    Unclaimed,
)

FILTERS = ("iotingestion/#",)
POND = b"""
name = "pond"
[match]
topic = "pond/{node}/heard"
[[record]]
kind = "detection"
species = "bird"
confidence = {from = "sure", scale = "fraction"}
"""
NOTHING = b'name = "nothing"\nignore = true\n[match]\ntopic = "homeassistant/#"\npayload = "any"\n'
HEARD = b'{"bird": "Crinia signifera", "sure": 0.5}'
MS = 1_790_000_000_000
DAY_MS = 86_400_000


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with contextlib.closing(Journal(tmp_path / "journal.db")) as journal:
        yield journal


def message(
    topic: str, payload: bytes = b"{}", account: str = "echopub", at_ms: int = MS
) -> Message:
    node = None if account == "echopub" else account
    return Message(topic, payload, at_ms, node, account=account)


def claims(forms: list[tuple[str, bytes]] | None = None, rules: Rules | None = None) -> Claims:
    own = Forms.of_sources(forms or [("pond.toml", POND), ("nothing.toml", NOTHING)])
    assert not own.errors, own.errors
    return Claims(TopicRights(FILTERS), Decoder(100_000, rules or Rules(), own))


def append(journal: Journal, claims: Claims, *messages: Message) -> list[object]:
    return list(journal.append([(each, claims.identify(each)) for each in messages]).outcomes)


def figures(journal: Journal) -> dict[str, int]:
    ledger = journal.ledger()
    assert ledger.received == ledger.accounted
    names = ("received", "stored", "duplicates", "dead_letters", "ignored", "unclaimed")
    return {name: getattr(ledger, name) for name in names if getattr(ledger, name)}


def listed(journal: Journal) -> dict[str, tuple[int, int]]:
    with contextlib.closing(JournalReader(journal.path)) as reader:
        return {each.topic: (each.messages, each.kept) for each in reader.unclaimed_topics()}


# ---------------------------------------------------------------------- what claims a message


PREDICTION = msgspec.json.encode(
    {
        "sensor_id": "a",
        "species": "Crinia signifera",
        "confidence": 63.64,
        "timestamp": "1790000000",
    }
    | {"type": "prediction"}
)


@pytest.mark.parametrize(
    ("topic", "payload", "expected"),
    [
        ("pond/north/heard", HEARD, Identity),
        ("pond/north/heard", b'{"bird": "x", "sure": 5}', Rejected),
        ("homeassistant/x/config", b"", Ignored),
        ("iot/data/test", PREDICTION, Identity),
        ("anything", b'{"status": "online"}', Unclaimed),
        ("anything", b'{"status": "online", "nodeId": "a"}', Identity),
        ("anything", b'{"x": 1}', Unclaimed),
        ("anything", b"online", Unclaimed),
        ("iotingestion", b"online", Rejected),
        ("taken/in", b"online", Rejected),
        ("taken/in", b'{"status": "online", "nodeId": "a"}', Identity),
    ],
)
def test_a_message_is_claimed_by_its_topic_a_form_or_a_person(
    topic: str, payload: bytes, expected: type
) -> None:
    by_all = claims()
    by_all.taken = ("taken/#",)
    assert type(by_all.identify(message(topic, payload))) is expected
    # on the topic of a node all of it is claimed
    own = Message("iotingestion/a/" + topic, payload, MS, "a")
    assert type(by_all.identify(own)) in (Identity, Rejected)


def test_a_node_that_a_payload_names_is_believed_of_gateways_alone() -> None:
    rules = Rules(accounts={"ridge-07": (), "gateway-1": ("north", "pond-*")})
    by_form = claims(rules=rules)

    def node(account: str, named: str) -> str | None:
        decoded = by_form.identify(message(f"pond/{named}/heard", HEARD, account))
        if isinstance(decoded, Rejected):
            assert decoded.code is ReasonCode.NODE_NOT_CLAIMED
            return None
        assert isinstance(decoded, Identity)
        return decoded.node or account

    assert node("gateway-1", "north") == "north"
    assert node("gateway-1", "pond-3") == "pond-3"
    assert node("gateway-1", "south") is None
    assert node("ridge-07", "north") == "ridge-07"
    assert node("echopub", "north") == "north"


def test_a_gateway_that_loses_its_rights_takes_back_nothing_stored(
    journal: Journal,
) -> None:
    rules = Rules(accounts={"gateway-1": ("north",)})
    by_form = claims(rules=rules)
    append(journal, by_form, message("pond/north/heard", HEARD, "gateway-1"))
    append(journal, by_form, message("pond/south/heard", HEARD, "gateway-1"))
    journal.add_sink("api")
    rules.accounts.clear()
    (entry,) = journal.read("api", 10)
    assert (entry.message.node, entry.message.account) == ("north", "gateway-1")
    assert entry.message.topic == "pond/north/heard"
    decoder = by_form._decoder
    records = decoder.decode(entry.message)
    assert isinstance(records, tuple)
    assert records[0].node == "north"
    with contextlib.closing(JournalReader(journal.path)) as reader:
        (letter,) = reader.dead_letters()
    assert letter.message.account == "gateway-1"
    rules.accounts["gateway-1"] = ("south",)
    assert isinstance(decoder.identify(letter.message), Identity), "the rights of now count"


def test_the_same_words_of_two_accounts_are_two_messages(journal: Journal) -> None:
    told = b'{"id": "1", "bird": "Crinia signifera", "sure": 0.5}'
    outcomes = append(
        journal,
        claims(),
        *(message("pond/x/heard", told, account) for account in ("ridge-07", "creek-02")),
    )
    assert [type(each) for each in outcomes] == [Stored, Stored]


def test_the_same_call_by_two_gateways_is_one(journal: Journal) -> None:
    scoped = POND + b'[identity]\nmessage_id = "id"\nscope = "form"\n'
    forms = [("pond.toml", scoped)]
    rules = Rules(accounts={"gateway-1": ("north",), "gateway-2": ("*",)})
    heard = b'{"id": "7", "bird": "Crinia signifera", "sure": 0.5}'
    sent = [message("pond/north/heard", heard, account) for account in rules.accounts]
    append(journal, claims(forms, rules), *sent)
    assert figures(journal) == {"received": 2, "stored": 1, "duplicates": 1}


# ---------------------------------------------------------------------- what is kept


def test_all_is_counted_by_topic_and_comes_back_as_it_was(journal: Journal) -> None:
    sent = [message(f"t/{number % 3}", b"%d" % number, at_ms=MS + number) for number in range(7)]
    sent.append(Message("t/0", b"\xff\0", MS, "a", (("k", "v"),), account="a"))
    assert {type(each) for each in append(journal, claims(), *sent)} == {Unclaimed}
    assert figures(journal) == {"received": 8, "unclaimed": 8}
    assert listed(journal) == {"t/0": (4, 4), "t/1": (2, 2), "t/2": (2, 2)}
    kept = journal.unclaimed(0, 100)
    assert [each.message for each in kept] == sent
    assert not any(each.damaged for each in kept)
    assert journal.forget_unclaimed(["t/0"]) == 4
    assert listed(journal) == {"t/1": (2, 2), "t/2": (2, 2)}
    assert figures(journal) == {"received": 8, "unclaimed": 8}, "what came is not uncounted"
    with contextlib.closing(JournalReader(journal.path)) as reader:
        (day,) = [each for each in reader.node_days() if each.node == "a"]
    assert (day.received, day.unclaimed) == (1, 1)


def test_what_is_kept_has_a_limit_and_a_loud_topic_pays_for_itself(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unclaimed_topics, "BYTES_MAX", 10_000)
    monkeypatch.setattr(unclaimed_topics, "TOPICS_MAX", 3)
    by_nobody = claims()
    append(journal, by_nobody, message("quiet", b"x" * 100))
    for number in range(50):
        append(journal, by_nobody, message("loud", b"%04d" % number * 100))
    assert listed(journal)["quiet"] == (1, 1)
    messages, kept = listed(journal)["loud"]
    assert messages == 50
    assert 10 <= kept <= 24
    newest = [each for each in journal.unclaimed(0, 100) if each.message.topic == "loud"][-1]
    assert newest.message.payload == b"0049" * 100
    append(journal, by_nobody, *(message(f"odd/{number}") for number in range(10)))
    assert sum(messages for messages, _ in listed(journal).values()) == 61
    assert len(listed(journal)) == 4
    assert figures(journal) == {"received": 61, "unclaimed": 61}


def test_what_comes_again_after_a_lost_connection_is_counted_once(journal: Journal) -> None:
    by_nobody = claims()
    odd, ignored = message("odd", b"1"), message("homeassistant/x", b"1")
    append(journal, by_nobody, odd, ignored)
    again = [msgspec.structs.replace(each, redelivered=True) for each in (odd, ignored)]
    append(journal, by_nobody, *again)
    assert figures(journal) == {"received": 4, "duplicates": 2, "ignored": 1, "unclaimed": 1}
    assert listed(journal) == {"odd": (1, 1)}
    journal.acknowledged()
    append(journal, by_nobody, *again)  # now it is another one: all of those were acknowledged
    assert figures(journal)["unclaimed"] == figures(journal)["ignored"] == 2


def test_properties_and_topics_count_as_much_as_payloads(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unclaimed_topics, "BYTES_MAX", 10_000)
    by_nobody = claims()
    for number in range(30):
        told = message(f"{number % 2}/{'x' * 200}", b"")
        properties = (("note", "ü" * 300),)
        append(journal, by_nobody, msgspec.structs.replace(told, properties=properties))
    kept = sum(kept for _, kept in listed(journal).values())
    assert 5 <= kept <= 12
    assert figures(journal) == {"received": 30, "unclaimed": 30}


def test_what_is_kept_of_other_topics_is_shown_and_discarded_with_them(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unclaimed_topics, "TOPICS_MAX", 2)
    by_nobody = claims()
    topics = ("long/" * 60, "odd/1", "odd/2", "odd/3", "odd/4", "odd/1", "odd/3")
    append(journal, by_nobody, *map(message, topics))
    assert listed(journal) == {"odd/1": (2, 2), "odd/2": (1, 1), "": (4, 4)}
    assert journal.forget_unclaimed([""]) == 4
    assert listed(journal) == {"odd/1": (2, 2), "odd/2": (1, 1)}
    assert figures(journal) == {"received": 7, "unclaimed": 7}


def test_where_many_topics_share_the_space_room_is_made_for_many_messages_at_once(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One topic at a time would hold up the line: each is looked for among all that is kept."""
    monkeypatch.setattr(unclaimed_topics, "MESSAGES_MAX", 400)
    by_nobody = claims()
    for first in (0, 200):
        append(journal, by_nobody, *(message(f"odd/{first + each}") for each in range(200)))
    assert len(journal.unclaimed(0, 1_000)) == 400
    append(journal, by_nobody, message("odd/400"))
    kept = [each.message.topic for each in journal.unclaimed(0, 1_000)]
    assert 300 <= len(kept) <= 351
    assert kept == [f"odd/{401 - len(kept) + each}" for each in range(len(kept))]


def test_properties_and_topics_take_space_too(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unclaimed_topics, "BYTES_MAX", 100_000)
    by_nobody = claims()
    large = (("x", "\1" * 5_000),)
    for number in range(30):
        of_properties = message(f"t/{number % 2}", at_ms=MS + number)
        append(journal, by_nobody, msgspec.structs.replace(of_properties, properties=large))
    assert 1 <= len(journal.unclaimed(0, 100)) <= 3, "each takes 30,000 bytes as JSON"
    journal.forget_unclaimed(["t/0", "t/1"])
    for number in range(30):
        append(journal, by_nobody, message(f"{number}/" + "long" * 2_500))
    assert 1 <= len(journal.unclaimed(0, 100)) <= 10


def test_what_the_broker_sends_again_is_kept_once(journal: Journal) -> None:
    odd, by_nobody = message("odd/1", b'{"status": "online"}'), claims()
    again = msgspec.structs.replace(odd, redelivered=True)
    assert append(journal, by_nobody, odd) == [Unclaimed()]
    assert append(journal, by_nobody, again) == [Duplicate()]
    assert append(journal, by_nobody, again) == [Unclaimed()], "one message answers for one"
    journal.acknowledged()
    assert append(journal, by_nobody, again) == [Unclaimed()]
    assert figures(journal) == {"received": 4, "duplicates": 1, "unclaimed": 3}


def test_it_is_kept_for_a_month(journal: Journal) -> None:
    append(journal, claims(), message("old"), message("new", at_ms=MS + 2 * DAY_MS))
    journal.forget_unclaimed(now_ms=MS + 29 * DAY_MS)
    assert set(listed(journal)) == {"old", "new"}
    journal.forget_unclaimed(now_ms=MS + 31 * DAY_MS)
    assert set(listed(journal)) == {"new"}
    assert figures(journal) == {"received": 2, "unclaimed": 2}


# ---------------------------------------------------------------------- taking in


def test_topics_are_taken_in_once_each_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "taken-topics.txt"
    assert read_taken_topics(path) == ()
    for text in ("birdnet", "birdnet/#", "tele/+/SENSOR"):
        take_in(path, text)
    assert read_taken_topics(path) == ("birdnet/#", "tele/+/SENSOR")
    for wrong in ("", "a/#/b", "$SYS/#", "#", "iotreceipts/x", "iotaccounts/#", "x" * 1_024):
        with pytest.raises(ValueError, match=r"\S"):
            take_in(path, wrong)
    path.write_text("".join(f"{number}/#\n" for number in range(1_000)))
    with pytest.raises(TakenTopicsUnusable, match="may have 1,000 topics"):
        take_in(path, "one/more")
    assert take_in(path, "7/#") == "7/#"
    assert len(read_taken_topics(path)) == 1_000
    path.write_text("a/#\nb/#/c\n")
    with pytest.raises(TakenTopicsUnusable, match="line 2"):
        read_taken_topics(path)


async def test_what_was_kept_goes_through_the_line_once_it_is_claimed(
    journal: Journal, tmp_path: Path
) -> None:
    path, by_person = tmp_path / "taken-topics.txt", claims([("nothing.toml", NOTHING)])
    append(
        journal,
        by_person,
        message("pond/north/heard", HEARD),
        message("pond/north/heard", HEARD, "ridge-07"),
        message("state", b'{"status": "online", "id": "1"}', "ridge-07"),
        message("state", b"what?", "ridge-07"),
        message("else", b"?"),
    )
    assert figures(journal) == {"received": 5, "unclaimed": 5}

    async def until(expected: dict[str, int]) -> None:
        async with asyncio.timeout(20):
            while figures(journal) != expected:
                await asyncio.sleep(0.01)

    following = asyncio.create_task(follow_claims(path, by_person, journal, 0.01))
    with capture_logs() as logs:
        take_in(path, "state")
        await until({"received": 5, "unclaimed": 3, "stored": 1, "dead_letters": 1})
        # a form that comes later claims what it is for
        forms = by_person._decoder.forms
        assert forms is not None
        forms.become(Forms.of_sources([("pond.toml", POND)]))
        await until({"received": 5, "unclaimed": 1, "stored": 3, "dead_letters": 1})
        path.write_text("a/#/b")
        while not any(each["event"] == "topics not taken in" for each in logs):
            await asyncio.sleep(0.01)
    assert by_person.taken == ("state/#",), "the file of before holds"
    following.cancel()
    assert listed(journal) == {"else": (1, 1)}
    with contextlib.closing(JournalReader(journal.path)) as reader:
        days = {each.node: each for each in reader.node_days()}
        (letter,) = reader.dead_letters()
    assert days["ridge-07"].stored == 2
    assert days["ridge-07"].unclaimed == days[""].stored == 0
    assert (days["north"].received, days["north"].stored) == (1, 1)
    assert letter.message.account == "ridge-07"


def test_what_is_taken_in_twice_is_there_once(journal: Journal) -> None:
    told = message("state", b'{"status": "online", "id": "1"}', "ridge-07")
    by_person = claims()
    append(journal, by_person, told, told)
    by_person.taken = ("state/#",)
    for entry in journal.unclaimed(0, 10):
        decoded = by_person.identify(entry.message)
        assert isinstance(decoded, Identity)
        journal.claim(entry, decoded)
        with pytest.raises(KeyError):
            journal.claim(entry, decoded)
    assert figures(journal) == {"received": 2, "stored": 1, "duplicates": 1}
    assert not isinstance(append(journal, by_person, told)[0], DeadLetter)
