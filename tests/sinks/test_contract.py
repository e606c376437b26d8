"""What every sink promises while its store is well."""

import base64
import contextlib
from collections import Counter
from collections.abc import Sequence

import pytest

from echo_ingest.journal.reader import JournalReader
from echo_ingest.record import RECORDS_MAX, kind, record_key
from echo_ingest.sinks import Delivery
from tests.several_records import delivery_of, several, sound_level
from tests.sinks.backend import Backend
from tests.sinks.delivering import Line, every_entry, settle
from tests.sinks.messages import (
    BEYOND,
    LIMITS,
    clip,
    detection,
    fields_of,
    message,
    messages,
    record_of,
    records_of,
)

pytestmark = pytest.mark.slow


async def test_every_kind_arrives_once_and_what_is_settled_is_there(
    line: Line, backend: Backend
) -> None:
    """So no record of a node is there before an earlier one of another write."""
    settled: list[Delivery] = []

    async def look(taken: Sequence[Delivery]) -> None:
        settled.extend(taken)
        there = set(await backend.stored())
        assert all(d.key in there for d in settled if backend.keeps(d.records[0]))

    line.append(messages(0, 40))
    async with line.delivering(batch_records_max=9) as (_, sink):
        sink.after_write = look
        await line.until_settled()
    await line.check()
    assert line.unsure == 0
    assert set(Counter(kind(d.records[0]) for d in settled).values()) == {8, 16}
    assert [d.offset for d in settled] == list(range(1, 41))


@pytest.mark.only(where=lambda backend: not backend.is_idempotent)
async def test_a_store_that_cannot_tell_a_repeat_takes_them_in_order(
    line: Line, backend: Backend
) -> None:
    line.append(messages(0, 40))
    async with line.delivering():
        await line.until_settled()
    with contextlib.closing(JournalReader(line.path)) as reader:
        assert await backend.stored() == [entry.key for entry in every_entry(reader)]


@pytest.mark.only(where=lambda backend: backend.is_idempotent)
async def test_a_batch_written_again_changes_nothing(line: Line, backend: Backend) -> None:
    batch = deliveries(line, 25)
    first = backend.sink(backend.port)
    assert await settle(first, batch) == {}
    there = await backend.stored()
    assert await settle(first, batch) == {}
    await first.close()
    second = backend.sink(backend.port)
    assert await settle(second, batch[5:15]) == {}
    assert await settle(second, batch) == {}
    await second.close()
    assert Counter(await backend.stored()) == Counter(there)
    assert set(there) == {d.key for d in batch if backend.keeps(d.records[0])}


@pytest.mark.only(where=lambda backend: backend.refused is not None)
async def test_what_is_refused_is_parked_and_the_rest_delivered(
    line: Line, backend: Backend
) -> None:
    assert backend.refused is not None
    line.append([*messages(0, 12), backend.refused, *messages(12, 12)])
    async with line.delivering() as (deliver, _):
        await line.until_settled()
        assert (line.figures.parked, line.figures.delivered) == (1, 24)
        line.journal.request_replay(backend.name, [13])
        assert line.figures.backlog == 1
        deliver.wake()
        await line.until_settled()
    await line.check(refused=[backend.refused])


async def test_each_record_of_a_message_is_stored_once(line: Line, backend: Backend) -> None:
    heard = [fields_of(detection(number)) for number in range(3)]
    mixed = [fields_of(message(number)) for number in (2, 3, 4)]
    mixed += [sound_level(5, -41.25), sound_level(6, -42.5)]
    line.append([message(0), several(1, *heard), several(2, *mixed), message(1)])
    async with line.delivering():
        await line.until_settled()
    await line.check()
    assert line.figures.delivered == 4, "the ledger counts messages"
    keys = set(await backend.stored())
    with contextlib.closing(JournalReader(line.path)) as reader:
        entry = reader.record(3)
    assert entry is not None
    of_mixed = [record_key(entry.key, index) for index in range(5)]
    assert [key in keys for key in of_mixed] == [
        backend.keeps(record) for record in records_of(several(2, *mixed))
    ]


async def test_a_message_of_a_thousand_records_is_stored(line: Line, backend: Backend) -> None:
    sound = base64.b64encode(clip(1)).decode()
    with_clip = [sound, *[None] * 9]
    heard = [
        fields_of(detection(number, audioClip=with_clip[number % 10]))
        for number in range(RECORDS_MAX)
    ]
    line.append([message(0), several(1, *heard), message(1)])
    async with line.delivering():
        await line.until_settled()
    await line.check()


@pytest.mark.only(where=lambda backend: bool(backend.cannot_hold & BEYOND.keys()))
async def test_a_refused_record_refuses_its_message_and_is_named(backend: Backend) -> None:
    beyond = BEYOND[min(backend.cannot_hold & BEYOND.keys())]
    good = [record_of(detection(number)) for number in range(4)]
    batch = [
        delivery_of(1, b"1" * 16, detection(0), good[0]),
        delivery_of(2, b"2" * 16, detection(1), good[1], good[2], beyond, good[3]),
        delivery_of(3, b"3" * 16, detection(2), good[2]),
    ]
    sink = backend.sink(backend.port)
    ((place, reason),) = (await settle(sink, batch)).items()
    await sink.close()
    assert place == 1 and reason.startswith("record 3 of 4: "), reason
    stored = set(await backend.stored())
    assert {batch[0].key, batch[2].key} <= stored
    if backend.is_idempotent:
        assert record_key(batch[1].key, 2) not in stored


async def test_values_at_their_limits_are_stored(line: Line, backend: Backend) -> None:
    for number, limit in enumerate(LIMITS.values()):
        line.append([limit, message(number)])
    async with line.delivering():
        await line.until_settled()
    await line.check(refused=[LIMITS[name] for name in LIMITS if name in backend.cannot_hold])


async def test_values_that_no_form_can_say_today_are_settled_all_the_same(
    line: Line, backend: Backend
) -> None:
    strange = [
        delivery_of(number, bytes([number]) * 16, detection(number), record)
        for number, record in enumerate(BEYOND.values(), 1)
    ]
    plain = delivery_of(99, b"p" * 16, detection(99), record_of(detection(99)))
    sink = backend.sink(backend.port)
    refusals = await settle(sink, [*strange, plain])
    await sink.close()
    refused = {name for index, name in enumerate(BEYOND) if index in refusals}
    assert refused == backend.cannot_hold & BEYOND.keys(), refusals
    assert all(refusals.values())
    wanted = [d for i, d in enumerate([*strange, plain]) if i not in refusals]
    assert Counter(await backend.stored()) == {
        d.key: 1 for d in wanted if backend.keeps(d.records[0])
    }


async def test_the_probe_finds_a_store_that_is_well_and_stores_nothing(backend: Backend) -> None:
    sink = backend.sink(backend.port)
    await sink.probe()
    await sink.close()
    assert await backend.stored() == []


async def test_a_sink_says_what_it_is(backend: Backend) -> None:
    sink = backend.sink(backend.port)
    assert (sink.name, sink.is_idempotent) == (backend.name, backend.is_idempotent)
    assert sink.batch_records_max >= 1
    await sink.close()


async def test_a_sink_may_be_closed_unused_and_twice(backend: Backend) -> None:
    sink = backend.sink(backend.port)
    await sink.close()
    await sink.close()


def deliveries(line: Line, count: int) -> list[Delivery]:
    line.append(messages(0, count))
    with contextlib.closing(JournalReader(line.path)) as reader:
        return [
            delivery_of(entry.offset, entry.key, entry.message, record_of(entry.message))
            for entry in every_entry(reader)
        ]
