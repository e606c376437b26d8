"""An id is the same message for as long as the journal has it, whatever the time in it."""

import contextlib
import json
import re
import struct
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import msgspec
import pytest

from echo_ingest.decode import Decoder
from echo_ingest.decode.same_message import differ_only_in_time
from echo_ingest.journal import Arrival, Journal
from echo_ingest.pipeline.receipts import receipt
from echo_ingest.reasons import ReasonCode
from echo_ingest.record import (
    DeadLetter,
    Duplicate,
    Identity,
    Ignored,
    Message,
    Outcome,
    Rejected,
    Stored,
    key_with_time,
    message_key,
    payload_hash,
)

NOON = 1_789_387_200
"""2026-09-14 12:00 UTC."""
DECODER = Decoder(1_000_000)
TOPIC = "iotingestion/ridge-07"

Stamp = str | int | float | None


@dataclass(frozen=True)
class Attempt:
    """A message as an outbox sends it: `stamp` is what it writes anew at each attempt."""

    id: str | int = "ridge-07-41"
    stamp: Stamp = NOON
    species: str = "Litoria ewingii"
    sensor: str = "ridge-07"
    topic: str = TOPIC
    redelivered: bool = False

    @property
    def message(self) -> Message:
        fields = {
            "id": self.id,
            "sensor_id": self.sensor,
            "species": self.species,
            "confidence": 63.6,
        }
        if self.stamp is not None:
            fields["timestamp"] = self.stamp
        payload = json.dumps(fields).encode()
        return Message(self.topic, payload, NOON * 1000, redelivered=self.redelivered)

    @property
    def arrival(self) -> Arrival:
        identified = DECODER.identify(self.message)
        assert isinstance(identified, Identity)
        return self.message, identified


def stamps(number: int, seed: int = 1) -> list[Stamp]:
    """Return the times of attempts, each in another second, as devices write them."""
    rng = Random(seed)
    written: list[Callable[[int], Stamp]] = [
        lambda at: at,
        lambda at: at * 1000 + rng.randrange(1000),
        str,
        lambda at: datetime.fromtimestamp(at, UTC).isoformat(),
        lambda at: at + rng.random(),
    ]
    seconds = rng.sample(range(NOON - 90 * 86_400, NOON), number)
    return [rng.choice(written)(at) for at in seconds]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Journal]:
    with contextlib.closing(Journal(path)) as journal:
        yield journal


def append(journal: Journal, *attempts: Attempt) -> list[Outcome]:
    return journal.append([each.arrival for each in attempts]).outcomes


def is_reused(outcome: Outcome) -> bool:
    return isinstance(outcome, DeadLetter) and outcome.rejected.code is ReasonCode.ID_REUSED


@pytest.mark.parametrize("batch", [1, 7, 300])
@pytest.mark.parametrize("restarts", [False, True])
def test_however_often_an_id_comes_with_another_time_it_is_stored_once(
    path: Path, batch: int, restarts: bool
) -> None:
    first = Attempt()
    attempts = [replace(first, stamp=stamp) for stamp in (*stamps(298), None)]
    outcomes: list[Outcome] = []
    journal = Journal(path)
    for start in range(0, len(attempts), batch):
        again = attempts[start : start + batch]
        outcomes += append(journal, *again)
        if start % 3 == 0:
            journal.acknowledged()
        if restarts:
            journal.close()
            journal = Journal(path)
        outcomes += append(journal, *(replace(each, redelivered=True) for each in again))
    assert outcomes == [Stored(1), *[Duplicate(1)] * (2 * len(attempts) - 1)]
    ledger = journal.ledger()
    assert (ledger.stored, ledger.duplicates, ledger.dead_letters) == (1, 597, 0)
    journal.close()


def test_many_ids_sent_in_any_order_are_each_stored_once(path: Path) -> None:
    rng = Random(5)
    ids: list[str | int] = [f"ridge-07-{NOON * 10**9 + n}" for n in range(100)]
    ids += [*range(100), *(str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(100)), "frog"]
    sent = [Attempt(id=each, stamp=stamp) for each in ids for stamp in stamps(5)]
    rng.shuffle(sent)
    first_offsets: dict[str | int, int] = {}
    with opened(path) as journal:
        for start in range(0, len(sent), 50):
            batch = sent[start : start + 50]
            for attempt, outcome in zip(batch, append(journal, *batch), strict=True):
                expected = first_offsets.get(attempt.id)
                if expected is None:
                    assert isinstance(outcome, Stored)
                    first_offsets[attempt.id] = outcome.offset
                else:
                    assert outcome == Duplicate(expected)
        assert journal.ledger().stored == len(ids)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("stamp", [NOON, *stamps(20, seed=2)])
def test_other_content_under_an_id_is_a_dead_letter_at_any_time(
    path: Path, stamp: Stamp, together: bool
) -> None:
    first, other = Attempt(), Attempt(stamp=stamp, species="Crinia signifera")
    with opened(path) as journal:
        if together:
            _, outcome, again = append(journal, first, other, replace(first, stamp=stamp))
        else:
            append(journal, first)
            (outcome,), (again,) = append(journal, other), append(journal, replace(first, stamp=1))
        assert is_reused(outcome)
        assert again == Duplicate(1)


def test_the_same_id_of_another_sensor_or_topic_is_another_message(path: Path) -> None:
    different = [
        Attempt(),
        Attempt(sensor="ridge-08"),
        Attempt(topic="iotingestion/creek-02"),
        Attempt(id="ridge-07-42"),
        Attempt(id=NOON),  # a time alone: nothing else in the key's first bytes is of the sensor
        Attempt(id=NOON, sensor="ridge-08"),
        Attempt(id=NOON, topic="iotingestion/creek-02"),
    ]
    with opened(path) as journal:
        for stamp in stamps(50):
            append(journal, *(replace(each, stamp=stamp) for each in different))
        assert journal.ledger().stored == len(different)


def test_what_retention_has_removed_is_stored_anew(path: Path) -> None:
    with opened(path) as journal:
        append(journal, Attempt(), Attempt(id="newest"))
        assert append(journal, Attempt(stamp=NOON + 1)) == [Duplicate(1)]
        assert journal.trim(2**53) == 1
        assert append(journal, Attempt(stamp=NOON + 2)) == [Stored(3)]
        assert append(journal, Attempt(stamp=NOON)) == [Duplicate(3)]


def test_the_receipt_of_a_later_attempt_says_duplicate(path: Path) -> None:
    message = Attempt(stamp=NOON + 60).message
    later = msgspec.structs.replace(
        message, node="ridge-07", response_topic="iotreceipts/ridge-07/outbox"
    )
    with opened(path) as journal:
        append(journal, Attempt())
        identified = DECODER.identify(later)
        (outcome,) = journal.append([(later, identified)]).outcomes
    packet = receipt(later, identified, outcome)
    assert packet is not None
    assert b'"outcome":"duplicate"' in packet.replace(b'": "', b'":"')


def test_a_dead_letter_that_is_replayed_keeps_to_the_same_rule(path: Path) -> None:
    with opened(path) as journal:
        append(journal, Attempt())
        rejected = Rejected(ReasonCode.BROKEN_JSON, "not JSON")
        for number, stamp in enumerate(stamps(20), 1):
            message, identified = Attempt(stamp=stamp).arrival
            assert isinstance(identified, Identity)
            journal.append([(message, rejected)])
            assert journal.replay_dead_letter(number, message, identified) == Duplicate(1)


# ---------------------------------------------------------------------- what the same message is


def wav(samples: int = 800) -> bytes:
    data = b"\0\1" * samples
    form = struct.pack("<HHIIHH", 1, 1, 8_000, 16_000, 2, 16)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def clip(properties: dict[str, str], samples: int = 800) -> Message:
    return Message(TOPIC, wav(samples), NOON * 1000, properties=tuple(properties.items()))


@pytest.mark.parametrize("name", ["recorded_at", "timestamp"])
def test_a_clip_is_the_same_whatever_time_its_properties_give(path: Path, name: str) -> None:
    times = [f"2026-09-{day:02}T{hour:02}:45:12Z" for day in range(1, 30) for hour in range(8)]
    with opened(path) as journal:
        for time in times:
            message = clip({"id": "7", "sensor_id": "a", name: time})
            journal.append([(message, DECODER.identify(message))])
        other = clip({"id": "7", "sensor_id": "a", name: times[0]}, samples=900)
        moved = clip({"id": "7", "sensor_id": "a", "latitude": "-37.8", "longitude": "145.0"})
        for each in (other, moved):
            assert is_reused(journal.append([(each, DECODER.identify(each))]).outcomes[0])
        ledger = journal.ledger()
    assert (ledger.stored, ledger.duplicates, ledger.dead_letters) == (1, len(times) - 1, 2)


def json_message(text: str) -> Message:
    return Message("t", text.encode(), 5)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"a":1,"timestamp":1}', '{"timestamp": 2, "a": 1}', True),
        ('{"a":1,"timestamp":1}', '{"a":1}', True),
        ('{"a":1,"timestamp":1}', '{"a":1,"timestamp":null}', True),
        ('{"a":{"timestamp":1}}', '{"a":{"timestamp":2}}', False),
        ('{"a":[1,2]}', '{"a":[2,1]}', False),
        ('{"a":1}', '{"a":true}', False),
        ('{"a":1}', '{"a":"1"}', False),
        ('{"a":1}', '{"a":1,"b":null}', False),
        ('{"a":"é"}', '{"a":"\\u00e9"}', True),
        ('\ufeff{"a":1}', '{"a":1}', True),
        ("[" * 5_000, "[" * 5_000 + " ", False),
        ("rubbish", "rubbish", True),
        ("rubbish", "{}", False),
    ],
)
def test_json_is_compared_by_its_values_except_for_its_time(
    one: str, other: str, same: bool
) -> None:
    assert differ_only_in_time(json_message(one), json_message(other)) is same
    assert differ_only_in_time(json_message(other), json_message(one)) is same


def test_an_id_may_be_a_number_at_one_attempt_and_text_at_the_next() -> None:
    as_number, as_text = json_message('{"id": 1, "a": 2}'), json_message('{"a": 2, "id": "1"}')
    assert differ_only_in_time(as_number, as_text)
    assert not differ_only_in_time(as_number, json_message('{"id": "1", "a": 3}'))


def test_a_clip_is_never_the_same_as_json() -> None:
    assert not differ_only_in_time(clip({}), json_message("{}"))
    assert not differ_only_in_time(json_message("{}"), clip({}))


# ---------------------------------------------------------------------- keys


def key_of(message_id: str, seconds: int = NOON, sensor: str = "s") -> bytes:
    message = Message(TOPIC, b"{}", 5)
    identified = Identity("detection", seconds, message_id, sensor)
    return message_key(message, identified, payload_hash(message), 1)


def test_a_key_is_made_of_the_id_and_of_nothing_that_changes() -> None:
    assert len({key_of("7", seconds) for seconds in (0, 1, NOON, 2**32 - 1)}) == 1
    message, identified = Attempt().arrival
    assert isinstance(identified, Identity)
    slowly = DECODER.identified(message, hashed=False)
    assert not isinstance(slowly, Rejected | Ignored)
    assert slowly.identity == identified
    key = message_key(message, identified, payload_hash(message), 1)
    assert key[4:] == key_with_time(message, identified)[4:]
    assert key_with_time(message, identified)[:4] == NOON.to_bytes(4)
    assert key == message_key(message, identified, b"another 12", 99)


@pytest.mark.parametrize(
    "form", ["node-{}", "node-{}000", "{}000000-node-x", "{}000000000", "2026-{}", "é-{}"]
)
def test_ids_with_the_time_in_them_lie_side_by_side_in_the_order_of_their_time(form: str) -> None:
    keys = [key_of(form.format(NOON + number)) for number in range(0, 10_000, 7)]
    assert keys == sorted(keys)
    assert keys[0][:4] == NOON.to_bytes(4)


def test_counters_of_a_sensor_lie_side_by_side_in_their_order() -> None:
    keys = [key_of(f"{number}", sensor=sensor) for sensor in "ab" for number in range(30_000)]
    assert keys[:30_000] == sorted(keys[:30_000])
    assert len({key[:2] for key in keys}) == 2


@pytest.mark.parametrize(
    "text", ["", "frog", "٣", "9" * 256, "0" * 19, "²", "1" * 20, "\U0001f438"]
)
def test_every_id_has_a_key(text: str) -> None:
    assert len(key_of(text)) == 16
    assert re.search(rb"(?s)^.{16}$", key_of(text))
